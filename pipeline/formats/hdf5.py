"""Reads images from HDF5 files with the keys of Coursera's files.

The keys are train_set_x, train_set_y, test_set_x, test_set_y and list_classes. A file needs only one of the splits;
labels (``_y``) and class names are optional.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.formats.parts import Part, checked_part, class_names, labels_of, reading_file
from pipeline.system.errors import InputError
from pipeline.system.places import shown


def hdf5_parts(path: Path, opened: ExitStack) -> Iterator[Part]:
    """Yields the train and test images of a file; ``opened`` keeps the file open while its pixels are read."""
    import h5py

    with reading_file(path):
        file = opened.enter_context(h5py.File(path, "r"))
        listed = dataset_of(file, "list_classes", path)[:] if "list_classes" in file else []
        names = class_names(list(np.ravel(listed)))
        splits = [split for split in ("train", "test") if f"{split}_set_x" in file]
        if not splits:
            raise InputError(
                f"{shown(path)} has neither 'train_set_x' nor 'test_set_x' (it holds: {', '.join(sorted(file))}); move "
                "it out of raw/, or list the files to use in competition.toml: raw = ['...']"
            )
        for split in splits:
            pixels, key = dataset_of(file, f"{split}_set_x", path), f"{split}_set_y"
            labels = labels_of(path, split, dataset_of(file, key, path)[:], names) if key in file else None
            yield checked_part(path, split, pixels, labels)


def dataset_of(file: Any, key: str, path: Path) -> Any:
    """A dataset that is stored in this file; raises FoldwiseError otherwise, since HDF5 can link to other files."""
    import h5py

    found = file[key] if isinstance(file.get(key, getlink=True), h5py.HardLink) else None
    if not isinstance(found, h5py.Dataset) or found.external or found.is_virtual:
        raise InputError(f"{shown(path)}: '{key}' is not a plain dataset of this file")
    return found
