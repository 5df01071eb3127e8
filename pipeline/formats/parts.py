"""Defines and checks the common form of labelled images from all kinds of array files."""

from __future__ import annotations

import pickle
import re
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipeline.system.errors import FoldwiseError, InputError, MachineError
from pipeline.system.places import shown

MAX_SIDE = 65_000  # largest height or width of an image, in pixels
#: Largest ratio of the unpacked size to the size of a file. Images hardly compress, so a larger one is a bomb.
MAX_GROWTH = 1000


class Part(NamedTuple):
    """Images of one split from one file.

    path: the file
    split: "train" or "test"
    pixels: (N, H, W, 3) uint8, RGB, or (N, H, W) uint8, grey; an array or an HDF5 dataset
    labels: N class names; None if they are not known
    first: number of the first row
    """

    path: Path
    split: str
    pixels: Any
    labels: list[str] | None
    first: int = 0


def require_file_name(name: str, path: Path, what: str) -> None:
    """Raises FoldwiseError if a name from the file ``path`` cannot be the name of an image file.

    what: what it is, for the message
    """
    forbidden = re.search(r'[/\\:*?"<>|]', name)
    if not name.isprintable() or not 0 < len(name.encode()) <= 100 or forbidden or name[0] == ".":
        raise InputError(f"{shown(path)}: the {what} {name!r} cannot be part of a file's name")


def require_space(path: Path, folder: Path, files: int, size: int) -> None:
    """Raises FoldwiseError if ``files`` images with ``size`` bytes of pixels in all do not fit on the disk.

    Also if the file would grow to more than MAX_GROWTH times its size, as only a bomb does.
    """
    needed, free = max(size, 4096 * files), shutil.disk_usage(folder).free  # a file takes a disk block of 4,096 bytes
    if needed > free:
        raise MachineError(
            f"{shown(path)} needs {needed / 1e9:,.1f} GB but {shown(folder)} has {free / 1e9:.1f} GB free; free some "
            "space and run the same command again"
        )
    if size > MAX_GROWTH * max(path.stat().st_size, 1_000_000):
        raise InputError(
            f"{shown(path)} would unpack to {size:,} bytes, more than {MAX_GROWTH} times its size; nothing was unpacked"
        )


@contextmanager
def reading_file(path: Path) -> Iterator[None]:
    """Context that turns the exceptions of the readers for a damaged file into a FoldwiseError."""
    try:
        yield
    except (FoldwiseError, PermissionError):
        raise
    except (OSError, EOFError, KeyError, ValueError, TypeError, IndexError, AttributeError, RuntimeError, ImportError,
            OverflowError, MemoryError, RecursionError, pickle.UnpicklingError, zipfile.BadZipFile,
            zlib.error) as error:  # fmt: skip
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{shown(path)} is damaged or has the wrong format ({reason}); download it again") from error


def checked_part(path: Path, split: str, pixels: Any, labels: list[str] | None, first: int = 0) -> Part:
    """A Part of these fields; raises FoldwiseError if pixels or labels have the wrong form."""
    if len(pixels.shape) > 2 and max(pixels.shape[1:3]) > MAX_SIDE:
        raise InputError(f"{shown(path)}: {split} images of {pixels.shape[1]} x {pixels.shape[2]} pixels are too large")
    if pixels.shape[3:] not in ((), (3,)) or pixels.ndim < 3 or pixels.dtype != np.uint8 or 0 in pixels.shape:
        raise InputError(
            f"{shown(path)}: the {split} images are {pixels.dtype} of shape {tuple(pixels.shape)}; they must be uint8 "
            "(N, height, width, 3), RGB, or (N, height, width), grey"
        )
    if labels is not None:
        if len(labels) != len(pixels):
            raise InputError(f"{shown(path)} holds {len(pixels)} {split} images but {len(labels)} labels")
        for name in sorted(set(labels)):
            require_file_name(name, path, "class name")
    return Part(path, split, pixels, labels, first)


def class_names(listed: Any) -> list[str]:
    """The names of the classes as text; raises ValueError if ``listed`` is not a list of names or repeats one."""
    if not isinstance(listed, list) or any(isinstance(name, list | tuple | dict) for name in listed):
        raise ValueError("its class names are not a list of names")
    names = [text_of(name) for name in listed]
    if len(set(names)) < len(names):
        raise ValueError(f"two of its classes have the same name: {', '.join(names)}")
    return names


def labels_of(path: Path, split: str, labels: np.ndarray, names: list[str]) -> list[str]:
    """The labels as class names; raises FoldwiseError for a number that is not a position in ``names``.

    A numeric label is a position in ``names`` or, if ``names`` is empty, the class itself. Text stays unchanged.
    """
    labels = np.ravel(labels)
    if labels.dtype.kind in "SUO":
        return [text_of(label) for label in labels]
    for row, label in enumerate(labels):
        if not float(label).is_integer():
            raise InputError(f"{shown(path)}: {split} row {row} has the label {label}, which is not a whole number")
        if names and not 0 <= label < len(names):
            raise InputError(
                f"{shown(path)}: {split} row {row} has the label {label}, but there are {len(names)} classes"
            )
    return [names[int(label)] if names else str(int(label)) for label in labels]


def text_of(name: Any) -> str:
    """A name that is stored as bytes, text or a number, as text."""
    return name.decode("utf-8") if isinstance(name, bytes) else str(name)
