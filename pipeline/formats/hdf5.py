"""Images in HDF5 files with the keys of the Coursera sets: train_set_x, train_set_y, test_set_x, test_set_y,
list_classes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.formats.parts import Part, checked_part, class_names, labels_of, reading_file
from pipeline.system.errors import FoldwiseError
from pipeline.system.places import shown


def hdf5_parts(path: Path, opened: ExitStack) -> Iterator[Part]:
    """Keys train_set_x, train_set_y, test_set_x, test_set_y, list_classes, as in the Coursera sets."""
    import h5py

    with reading_file(path):
        file = opened.enter_context(h5py.File(path, "r"))
        listed = dataset_of(file, "list_classes", path)[:] if "list_classes" in file else []
        names = class_names(list(np.ravel(listed)))
        splits = [split for split in ("train", "test") if f"{split}_set_x" in file]
        if not splits:
            raise FoldwiseError(
                f"{shown(path)} has neither 'train_set_x' nor 'test_set_x' (it holds: {', '.join(sorted(file))}); move "
                "it out of raw/, or name the files that are meant in competition.toml: raw = ['...']"
            )
        for split in splits:
            pixels, key = dataset_of(file, f"{split}_set_x", path), f"{split}_set_y"
            labels = labels_of(path, split, dataset_of(file, key, path)[:], names) if key in file else None
            yield checked_part(path, split, pixels, labels)


def dataset_of(file: Any, key: str, path: Path) -> Any:
    """A dataset that lies in this file itself: HDF5 can also point into other files."""
    import h5py

    found = file[key] if isinstance(file.get(key, getlink=True), h5py.HardLink) else None
    if not isinstance(found, h5py.Dataset) or found.external or found.is_virtual:
        raise FoldwiseError(f"{shown(path)}: '{key}' is no plain dataset of this file")
    return found
