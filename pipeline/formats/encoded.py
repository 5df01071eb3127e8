"""Writes image files that are stored in HDF5, as a dataset of bytes for each id (as in ISIC 2024)."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.formats.hdf5 import dataset_of
from pipeline.formats.listing import MAGIC
from pipeline.formats.parts import MAX_GROWTH, reading_file, require_file_name
from pipeline.system.errors import InputError, MachineError
from pipeline.system.places import shown

#: The largest image file.
MAX_BYTES = 500_000_000


def holds_files(path: Path) -> bool:
    """True if the first dataset of an HDF5 file is a single string of bytes."""
    import h5py

    with reading_file(path), h5py.File(path, "r") as file:
        first = next(iter(file), None)
        return first is not None and is_bytes(file.get(first))


def is_bytes(dataset: Any) -> bool:
    """True if a dataset is a single value of bytes, or a list of bytes."""
    import h5py

    if not isinstance(dataset, h5py.Dataset):
        return False
    is_text = dataset.dtype.kind in "SVO" and dataset.shape in ((), (1,))
    return is_text or (dataset.dtype == np.uint8 and dataset.ndim == 1)


def write_files(path: Path, folder: Path, with_progress: Callable[[list, str], Iterator]) -> int:
    """Writes ``<name of the file>/<id>.jpg`` below ``folder`` for each id of an HDF5 file; returns the number.

    Raises FoldwiseError for an id that is no file name, content that is no image, or too little disk space.
    """
    import h5py

    target = folder / path.name.split(".")[0]
    target.mkdir(parents=True, exist_ok=True)
    budget, free = MAX_GROWTH * max(path.stat().st_size, 1_000_000), shutil.disk_usage(folder).free
    with reading_file(path), h5py.File(path, "r") as file:
        names = list(file)
        for name in with_progress(names, f"writing the images of {path.name}"):
            require_file_name(name, path, "id")
            dataset = dataset_of(file, name, path)
            if not is_bytes(dataset) or dataset.nbytes > MAX_BYTES:
                raise InputError(f"{shown(path)}: '{name}' is not the content of an image file")
            value = np.asarray(dataset[()], None if dataset.dtype.kind == "O" else dataset.dtype)
            # Not value.item(): NumPy drops the zeros at the end of bytes.
            content = bytes(value.ravel()[0]) if value.dtype.kind == "O" else value.tobytes()
            ending = next((MAGIC[start] for start in MAGIC if content.startswith(start)), None)
            if ending is None:
                raise InputError(f"{shown(path)}: '{name}' is not the content of an image file of a known format")
            budget -= len(content)
            free -= max(4096, len(content))
            if budget < 0:
                raise InputError(f"{shown(path)} would unpack to more than {MAX_GROWTH} times its size")
            if free < 0:
                raise MachineError(f"{shown(folder)} has too little space for {shown(path)}; free some space")
            file_of_id = target / f"{name}{ending}"
            if file_of_id.exists():
                raise InputError(f"{shown(path)} and another file both hold '{target.name}/{file_of_id.name}'")
            file_of_id.write_bytes(content)
    return len(names)
