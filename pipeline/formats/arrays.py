"""Images that come as arrays in a file: the Coursera HDF5 sets, and CIFAR-10's Python pickles. Nothing in them is run.

Each becomes ``<split>/<label>_<number>.png``, or ``<split>/<number>.png`` where the file knows no labels: what a
pattern such as ``^(?P<label>.+)_(?P<id>\\d+)\\.png$`` reads like any other name. Numbers are rows from 0.
"""

from __future__ import annotations

import pickle
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipeline.formats.listing import CIFAR_NAMES, HDF5
from pipeline.system.errors import FoldwiseError
from pipeline.system.places import shown

BLOCK = 256  # rows in memory at once
MAX_SIDE = 65_000  # pixels


class Part(NamedTuple):
    """Images of one split from one file.

    pixels: (N, H, W, 3) uint8, RGB, or grey (N, H, W), an array or an HDF5 dataset; labels: (N,) class names, None
    where they are not known; first: number of the first row.
    """

    path: Path
    split: str
    pixels: Any
    labels: list[str] | None
    first: int = 0


def holds_images(path: Path) -> bool:
    """Whether a file that came along in an archive is meant: an HDF5 file without our keys may hold a model."""
    import h5py

    if not path.name.lower().endswith(HDF5):
        return True
    with _damage_told(path), h5py.File(path, "r") as file:
        return any(f"{split}_set_x" in file for split in ("train", "test"))


def write_images(files: Iterable[Path], folder: Path, watched: Callable[[list, str], Iterator]) -> int:
    """Writes all images of these files as PNG below ``folder`` and returns how many; ``watched`` wraps the blocks of
    each file for a progress bar: (blocks, what is done) -> iterator.

    Raises FoldwiseError for a file that is damaged or not of its kind, a split that two files hold, or too little disk.
    """
    import cv2

    count = 0
    with ExitStack() as opened:
        parts = list(_parts(sorted(files), opened))
        _require_distinct(parts)
        # Each file takes a block of the disk at least; whole numbers of Python, which do not overflow.
        total = sum(len(part.pixels) * max(4096, prod(part.pixels.shape[1:])) for part in parts)
        folder.mkdir(parents=True, exist_ok=True)
        if total > (free := shutil.disk_usage(folder).free):
            raise FoldwiseError(
                f"{shown(parts[0].path)} asks for {total / 1e9:,.1f} GB but {shown(folder)} has {free / 1e9:.1f} "
                "GB free; free some space and run the same command again"
            )
        for part in parts:
            (folder / part.split).mkdir(exist_ok=True)
            for start in watched(list(range(0, len(part.pixels), BLOCK)), f"writing the images of {part.path.name}"):
                with _damage_told(part.path):
                    block = part.pixels[start : start + BLOCK]
                for row, pixels in enumerate(block, start):
                    label = "" if part.labels is None else f"{part.labels[row]}_"
                    stored = pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
                    encoded = cv2.imencode(".png", stored)[1].tobytes()
                    target = folder / part.split / f"{label}{part.first + row}.png"
                    if target.exists():
                        raise FoldwiseError(
                            f"{shown(part.path)} and an archive both hold '{part.split}/{target.name}'; name the one "
                            f"that is meant in competition.toml: raw = ['{part.path.name}']"
                        )
                    target.write_bytes(encoded)
                    count += 1
    return count


def _parts(files: list[Path], opened: ExitStack) -> Iterator[Part]:
    """The parts of all files; batches of one folder belong together."""
    for path in files:
        if path.name.lower().endswith(HDF5):
            yield from _parts_of_hdf5(path, opened)
    batches = [path for path in files if CIFAR_NAMES.fullmatch(path.name)]
    for base in sorted({path.parent for path in batches}):
        yield from _parts_of_cifar([path for path in batches if path.parent == base])


def _require_distinct(parts: list[Part]) -> None:
    """Raises FoldwiseError when rows of two files would get one name."""
    seen: dict[tuple[str, int], Path] = {}
    for part in parts:
        other = seen.setdefault((part.split, part.first), part.path)
        if other != part.path:
            raise FoldwiseError(
                f"{shown(other)} and {shown(part.path)} both hold {part.split} images; name the one that is meant in "
                f"competition.toml: raw = ['{part.path.name}']"
            )


@contextmanager
def _damage_told(path: Path) -> Iterator[None]:
    """Turns what the readers raise for a damaged file into one sentence."""
    try:
        yield
    except (FoldwiseError, PermissionError):
        raise
    except (OSError, EOFError, KeyError, ValueError, TypeError, IndexError, AttributeError, RuntimeError, ImportError,
            OverflowError, MemoryError, RecursionError, pickle.UnpicklingError) as error:  # fmt: skip
        reason = " ".join(str(error).split()) or type(error).__name__
        raise FoldwiseError(f"{shown(path)} is damaged or not of its kind ({reason}); download it again") from error


def _checked_part(path: Path, split: str, pixels: Any, labels: list[str] | None, first: int = 0) -> Part:
    """The part; raises FoldwiseError for pixels or labels of another form."""
    if len(pixels.shape) > 2 and max(pixels.shape[1:3]) > MAX_SIDE:
        raise FoldwiseError(
            f"{shown(path)}: {split} images of {pixels.shape[1]} x {pixels.shape[2]} pixels are too large"
        )
    if pixels.shape[3:] not in ((), (3,)) or pixels.ndim < 3 or pixels.dtype != np.uint8 or 0 in pixels.shape:
        raise FoldwiseError(
            f"{shown(path)}: the {split} images are {pixels.dtype} of shape {tuple(pixels.shape)}; they must be uint8 "
            "(N, height, width, 3), RGB, or (N, height, width), grey"
        )
    if labels is not None:
        if len(labels) != len(pixels):
            raise FoldwiseError(f"{shown(path)} holds {len(pixels)} {split} images but {len(labels)} labels")
        for name in sorted(set(labels)):
            if (
                not name.isprintable()
                or not 0 < len(name.encode()) <= 100
                or re.search(r'[/\\:*?"<>|]', name)
                or name[0] == "."
            ):
                raise FoldwiseError(f"{shown(path)}: the class name {name!r} cannot be part of a file's name")
    return Part(path, split, pixels, labels, first)


def _names(listed: Any) -> list[str]:
    """The names of the classes; raises ValueError where they are none, or one comes twice."""
    if not isinstance(listed, list) or any(isinstance(name, list | tuple | dict) for name in listed):
        raise ValueError("the names of its classes are no list of names")
    names = [_text(name) for name in listed]
    if len(set(names)) < len(names):
        raise ValueError(f"two of its classes have one name: {', '.join(names)}")
    return names


def _named(path: Path, split: str, labels: np.ndarray, names: list[str]) -> list[str]:
    """Class names of labels that are positions; without names, the numbers themselves; names stay as they are."""
    labels = np.ravel(labels)
    if labels.dtype.kind in "SUO":
        return [_text(label) for label in labels]
    for row, label in enumerate(labels):
        if not float(label).is_integer():
            raise FoldwiseError(f"{shown(path)}: {split} row {row} has the label {label}, which is no whole number")
        if names and not 0 <= label < len(names):
            raise FoldwiseError(
                f"{shown(path)}: {split} row {row} has the label {label}, but there are {len(names)} classes"
            )
    return [names[int(label)] if names else str(int(label)) for label in labels]


def _text(name: Any) -> str:
    """A class name, stored as bytes, text or a number."""
    return name.decode("utf-8") if isinstance(name, bytes) else str(name)


# --- HDF5 -------------------------------------------------------------------------------------------------------


def _parts_of_hdf5(path: Path, opened: ExitStack) -> Iterator[Part]:
    """Keys train_set_x, train_set_y, test_set_x, test_set_y, list_classes, as in the Coursera sets."""
    import h5py

    with _damage_told(path):
        file = opened.enter_context(h5py.File(path, "r"))
        listed = _dataset(file, "list_classes", path)[:] if "list_classes" in file else []
        names = _names(list(np.ravel(listed)))
        splits = [split for split in ("train", "test") if f"{split}_set_x" in file]
        if not splits:
            raise FoldwiseError(
                f"{shown(path)} has neither 'train_set_x' nor 'test_set_x' (it holds: {', '.join(sorted(file))}); move "
                "it out of raw/, or name the files that are meant in competition.toml: raw = ['...']"
            )
        for split in splits:
            pixels, key = _dataset(file, f"{split}_set_x", path), f"{split}_set_y"
            labels = _named(path, split, _dataset(file, key, path)[:], names) if key in file else None
            yield _checked_part(path, split, pixels, labels)


def _dataset(file: Any, key: str, path: Path) -> Any:
    """A dataset that lies in this file itself: HDF5 can also point into other files."""
    import h5py

    found = file[key] if isinstance(file.get(key, getlink=True), h5py.HardLink) else None
    if not isinstance(found, h5py.Dataset) or found.external or found.is_virtual:
        raise FoldwiseError(f"{shown(path)}: '{key}' is no plain dataset of this file")
    return found


# --- CIFAR-10 ---------------------------------------------------------------------------------------------------


class _Type:
    """Stands in for numpy.dtype: a kind of number by its code, such as u1, and nothing else."""

    def __init__(self, code: Any, *_: Any) -> None:
        self.code = _text(code)
        if not re.fullmatch("[biuf][1248]", self.code):
            raise ValueError(f"its numbers are of the type {self.code}")

    def __setstate__(self, state: tuple) -> None:
        order = _text(state[1])
        if order not in tuple("|<>=") or state[2:5] != (None, None, None):
            raise ValueError("its numbers have parts")
        self.code = order.replace("|", "=") + self.code[-2:]


class _Array:
    """Stands in for numpy.ndarray: made of bytes that are as many as its shape says."""

    value: np.ndarray

    def __setstate__(self, state: tuple) -> None:
        _, shape, kind, is_fortran, content = state
        self.value = np.frombuffer(content, np.dtype(kind.code)).reshape(shape, order="F" if is_fortran else "C")


def _new_array(kind: Any, _shape: Any, _code: Any) -> _Array:
    """Stands in for the function that makes an array before its state is known."""
    if kind is not _Array:
        raise pickle.UnpicklingError("it makes something else than an array")
    return _Array()


def _number(kind: _Type, content: bytes) -> Any:
    """Stands in for the function that makes a single number."""
    return np.frombuffer(content, np.dtype(kind.code))[0].item()


class PlainUnpickler(pickle.Unpickler):
    """Knows NumPy arrays of plain numbers, which it makes itself, and plain types. Any other global, which is how a
    pickle runs code, is refused; NumPy's own are not called either, since a forged type would lead them anywhere.

    https://docs.python.org/3/library/pickle.html#restricting-globals
    """

    KNOWN = {
        ("multiarray", "_reconstruct"): _new_array,
        ("multiarray", "scalar"): _number,
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _Type,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):
            return super().find_class(module, name)
        for package in ("numpy.core.", "numpy._core."):
            module = module.removeprefix(package)
        if (module, name) not in self.KNOWN:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is neither an array nor a plain type")
        return self.KNOWN[module, name]


def _read_batch(path: Path, *keys: str) -> dict[str, Any]:
    """The dictionary in one pickle of Python 2 or 3, its keys as text."""
    with _damage_told(path), path.open("rb") as file:
        loaded = PlainUnpickler(file, encoding="bytes").load()
        content = {_text(key): getattr(value, "value", value) for key, value in loaded.items()}
        for key in keys:
            if key not in content:
                raise FoldwiseError(f"{shown(path)} has no '{key}' (it holds: {', '.join(sorted(content))})")
        return content


def _parts_of_cifar(batches: list[Path]) -> Iterator[Part]:
    """data_batch_1 to data_batch_5 (as many as there are), test_batch and batches.meta of one folder."""
    by_name = {path.name: path for path in batches}
    names: list[str] = []
    if meta := by_name.pop("batches.meta", None):
        with _damage_told(meta):
            names = _names(_read_batch(meta, "label_names")["label_names"])
    if not by_name:
        raise FoldwiseError(f"{shown(batches[0].parent)} holds batches.meta and no batch; put data_batch_1 beside it")
    first = {"train": 0, "test": 0}
    for path in sorted(by_name.values(), key=lambda path: (len(path.name), path.name)):
        split = "test" if path.name == "test_batch" else "train"
        content = _read_batch(path, "data", "labels")
        with _damage_told(path):
            rows = np.asarray(content["data"])
            if rows.dtype != np.uint8 or rows.ndim != 2 or rows.shape[1] != 3072:
                raise FoldwiseError(
                    f"{shown(path)}: the data are {rows.dtype} of shape {rows.shape}; they must be uint8 (N, 3072)"
                )
            labels = _named(path, split, np.asarray(content["labels"]), names)
            pixels = rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
            yield _checked_part(path, split, np.ascontiguousarray(pixels), labels, first[split])
        first[split] += len(pixels)
