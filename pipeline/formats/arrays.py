"""Writes images that come as arrays (Coursera's HDF5 files, NumPy's npz, CIFAR's Python pickles) as PNG files.

No code in the files is run. Each image becomes ``<split>/<label>_<number>.png``, or ``<split>/<number>.png`` if the
file has no labels, so that a pattern such as ``^(?P<label>.+)_(?P<id>\\d+)\\.png$`` can read the name. The number is
the row, from 0.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from math import prod
from pathlib import Path

from pipeline.formats.cifar import cifar_parts
from pipeline.formats.encoded import holds_files, write_files
from pipeline.formats.hdf5 import hdf5_parts
from pipeline.formats.listing import HDF5, NPZ, is_cifar_file
from pipeline.formats.npz import holds_npz_images, npz_parts
from pipeline.formats.parts import Part, reading_file, require_space
from pipeline.system.errors import InputError
from pipeline.system.places import shown

BLOCK = 256  # rows in memory at once


def holds_images(path: Path) -> bool:
    """True if a file from an archive holds images; HDF5 and npz without the expected keys may hold anything."""
    import h5py

    if path.name.lower().endswith(NPZ):
        return holds_npz_images(path)
    if not path.name.lower().endswith(HDF5):
        return True
    if holds_files(path):
        return True
    with reading_file(path), h5py.File(path, "r") as file:
        return any(f"{split}_set_x" in file for split in ("train", "test"))


def write_images(files: Collection[Path], folder: Path, with_progress: Callable[[list, str], Iterator]) -> int:
    """Writes all images of these files as PNG below ``folder``; returns their number.

    Raises FoldwiseError if a file is damaged or has the wrong format, two files hold the same split, or there is too
    little disk space.
    with_progress: wraps the blocks of each file for a progress bar: (blocks, description) -> iterator
    """
    import cv2

    count = 0
    of_files = [path for path in files if path.name.lower().endswith(HDF5) and holds_files(path)]
    for path in of_files:
        count += write_files(path, folder, with_progress)
    with ExitStack() as opened:
        parts = list(all_parts(sorted({*files} - {*of_files}), opened))
        require_distinct(parts)
        folder.mkdir(parents=True, exist_ok=True)
        for part in parts:
            require_space(part.path, folder, len(part.pixels), prod(part.pixels.shape))  # integers do not overflow
        for part in parts:
            (folder / part.split).mkdir(exist_ok=True)
            for start in with_progress(
                list(range(0, len(part.pixels), BLOCK)), f"writing the images of {part.path.name}"
            ):
                with reading_file(part.path):
                    block = part.pixels[start : start + BLOCK]
                for row, pixels in enumerate(block, start):
                    label = "" if part.labels is None else f"{part.labels[row]}_"
                    stored = pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
                    encoded = cv2.imencode(".png", stored)[1].tobytes()
                    target = folder / part.split / f"{label}{part.first + row}.png"
                    if target.exists():
                        raise InputError(
                            f"{shown(part.path)} and an archive both hold '{part.split}/{target.name}'; choose one of "
                            f"them in competition.toml, such as: raw = ['{part.path.name}']"
                        )
                    target.write_bytes(encoded)
                    count += 1
    return count


def all_parts(files: list[Path], opened: ExitStack) -> Iterator[Part]:
    """Yields the parts of all files; CIFAR batches in the same folder belong together."""
    for path in files:
        if path.name.lower().endswith(HDF5):
            yield from hdf5_parts(path, opened)
        elif path.name.lower().endswith(NPZ):
            yield from npz_parts(path, opened)
    batches = [path for path in files if is_cifar_file(path)]
    for base in sorted({path.parent for path in batches}):
        yield from cifar_parts([path for path in batches if path.parent == base])


def require_distinct(parts: list[Part]) -> None:
    """Raises FoldwiseError if rows of two files would get the same name."""
    seen: dict[tuple[str, int], Path] = {}
    for part in parts:
        other = seen.setdefault((part.split, part.first), part.path)
        if other != part.path:
            raise InputError(
                f"{shown(other)} and {shown(part.path)} both hold {part.split} images; choose one of them in "
                f"competition.toml, such as: raw = ['{part.path.name}']"
            )
