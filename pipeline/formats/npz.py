"""Reads images from NumPy's .npz files, row by row, without running code in them."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.formats.parts import Part, checked_part, labels_of, reading_file
from pipeline.system.errors import InputError
from pipeline.system.places import shown

#: Names of the arrays: of Keras (``x_train``, ``y_train``), MedMNIST (``train_images``, ``train_labels``) and Coursera.
FORMS = (("x_{}", "y_{}"), ("{}_images", "{}_labels"), ("{}_set_x", "{}_set_y"), ("images_{}", "labels_{}"))
#: Largest array of labels, in bytes.
MAX_LABELS = 200_000_000


class Rows:
    """An array (N, ...) in an .npz file, of which slices can be read once, one after another.

    shape, dtype, ndim: as in NumPy
    """

    def __init__(self, file: Any, path: Path) -> None:
        version = np.lib.format.read_magic(file)
        read_header = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}[version[0]]
        self.shape, is_fortran, self.dtype = read_header(file)
        if self.dtype.hasobject or (is_fortran and len(self.shape) > 1):
            raise InputError(f"{shown(path)} holds an array of Python objects or in Fortran order; save it otherwise")
        self.file, self.ndim = file, len(self.shape)

    def __len__(self) -> int:
        return self.shape[0] if self.shape else 1

    def __getitem__(self, rows: slice) -> np.ndarray:
        count = len(range(*rows.indices(len(self))))
        shape = (count, *self.shape[1:])
        size = int(np.prod(shape, dtype=object)) * self.dtype.itemsize
        content = bytearray()
        while len(content) < size and (more := self.file.read(size - len(content))):
            content += more
        return np.frombuffer(bytes(content), self.dtype).reshape(shape)


def holds_npz_images(path: Path) -> bool:
    """True if a file has one of the arrays of images that are read."""
    with reading_file(path), zipfile.ZipFile(path) as archive:
        names = {name.removesuffix(".npy") for name in archive.namelist()}
    return any(form.format(split) in names for form, _ in FORMS for split in ("train", "test"))


def npz_parts(path: Path, opened: ExitStack) -> Iterator[Part]:
    """Yields the train and test images of a file; ``opened`` keeps the file open while its pixels are read."""
    with reading_file(path):
        archive = opened.enter_context(zipfile.ZipFile(path))
        names = {name.removesuffix(".npy") for name in archive.namelist()}
        found = False
        for split in ("train", "test"):
            for of_images, of_labels in FORMS:
                images, labels = of_images.format(split), of_labels.format(split)
                if images in names:
                    found = True
                    rows = Rows(opened.enter_context(archive.open(f"{images}.npy")), path)
                    given = class_labels(archive, labels, path, split) if labels in names else None
                    yield checked_part(path, split, rows, given)
                    break
        if not found:
            raise InputError(
                f"{shown(path)} has neither 'x_train' nor 'train_images' nor those of test (it holds: "
                f"{', '.join(sorted(names)[:8])}); move it out of raw/, or list the files to use in competition.toml: "
                "raw = ['...']"
            )


def class_labels(archive: zipfile.ZipFile, name: str, path: Path, split: str) -> list[str]:
    """The labels of a split as text."""
    with archive.open(f"{name}.npy") as file:
        rows = Rows(file, path)
        if int(np.prod(rows.shape, dtype=object)) * rows.dtype.itemsize > MAX_LABELS:
            raise InputError(f"{shown(path)}: the array {name} is too large for labels")
        return labels_of(path, split, rows[:], [])
