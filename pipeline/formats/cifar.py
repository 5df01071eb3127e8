"""Reads images from the Python pickles of CIFAR-10 and CIFAR-100, without running code in them."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.formats.parts import Part, checked_part, class_names, labels_of, reading_file, text_of
from pipeline.system.errors import InputError
from pipeline.system.places import shown


class _Type:
    """Replaces numpy.dtype during unpickling: accepts numeric types only, by their code, such as u1."""

    def __init__(self, code: Any, *_: Any) -> None:
        self.code = text_of(code)
        if not re.fullmatch("[biuf][1248]", self.code):
            raise ValueError(f"its values are of the type {self.code}, which is not numeric")

    def __setstate__(self, state: tuple) -> None:
        order = text_of(state[1])
        if order not in tuple("|<>=") or state[2:5] != (None, None, None):
            raise ValueError("its values are structured or have an unknown byte order")
        self.code = order.replace("|", "=") + self.code[-2:]


class _Array:
    """Replaces numpy.ndarray during unpickling: makes an array from bytes, whose number must match the shape."""

    value: np.ndarray

    def __setstate__(self, state: tuple) -> None:
        _, shape, kind, is_fortran, content = state
        self.value = np.frombuffer(content, np.dtype(kind.code)).reshape(shape, order="F" if is_fortran else "C")


def _new_array(kind: Any, _shape: Any, _code: Any) -> _Array:
    """Replaces the function that makes an empty array before its state is set."""
    if kind is not _Array:
        raise pickle.UnpicklingError("it makes an object that is not an array")
    return _Array()


def _number(kind: _Type, content: bytes) -> Any:
    """Replaces the function that makes a single number."""
    return np.frombuffer(content, np.dtype(kind.code))[0].item()


class PlainUnpickler(pickle.Unpickler):
    """Loads plain types, and NumPy arrays of plain numbers, which it makes itself.

    Refuses all other globals, since a pickle runs code through them. It does not call NumPy's own functions either,
    since a forged dtype could make them follow arbitrary pointers.
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


def read_batch(path: Path, *keys: str) -> dict[str, Any]:
    """The dictionary in one pickle of Python 2 or 3, with text keys; raises FoldwiseError if one is missing."""
    with reading_file(path), path.open("rb") as file:
        loaded = PlainUnpickler(file, encoding="bytes").load()
        content = {text_of(key): getattr(value, "value", value) for key, value in loaded.items()}
        for key in keys:
            if key not in content:
                raise InputError(f"{shown(path)} has no '{key}' (it holds: {', '.join(sorted(content))})")
        return content


def cifar_parts(batches: list[Path]) -> Iterator[Part]:
    """Yields the parts of one folder: its data_batch_* files are train images, its test_batch test images.

    In CIFAR-100, these are the files train and test, with fine labels. Class names are from batches.meta or meta, if it
    exists. Train images are numbered through all batches.
    """
    by_name = {path.name: path for path in batches}
    label_key, names_key, names = "labels", "label_names", []
    meta = by_name.pop("batches.meta", None)
    if meta is None and "meta" in by_name:
        meta = by_name.pop("meta")
        label_key, names_key = "fine_labels", "fine_label_names"
    if meta is not None:
        with reading_file(meta):
            names = class_names(read_batch(meta, names_key)[names_key])
    if not by_name:
        raise InputError(f"{shown(batches[0].parent)} holds batches.meta but no batch; put data_batch_1 beside it")
    first = {"train": 0, "test": 0}
    for path in sorted(by_name.values(), key=lambda path: (len(path.name), path.name)):
        split = "test" if path.name in ("test_batch", "test") else "train"
        content = read_batch(path, "data", label_key)
        with reading_file(path):
            rows = np.asarray(content["data"])
            if rows.dtype != np.uint8 or rows.ndim != 2 or rows.shape[1] != 3072:
                raise InputError(
                    f"{shown(path)}: the data are {rows.dtype} of shape {rows.shape}; they must be uint8 (N, 3072)"
                )
            labels = labels_of(path, split, np.asarray(content[label_key]), names)
            pixels = rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
            yield checked_part(path, split, np.ascontiguousarray(pixels), labels, first[split])
        first[split] += len(pixels)
