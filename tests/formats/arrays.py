"""Files of images as arrays."""

from __future__ import annotations

import re
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from pipeline.pixels.decode import decode
from pipeline.records.paths import Paths
from pipeline.records.tables import read_manifest

RNG = np.random.default_rng(0)


def pixels(number: int, side: int = 12) -> np.ndarray:
    """Noise (N, side, side, 3)."""
    return RNG.integers(0, 256, (number, side, side, 3), dtype=np.uint8)


def write_hdf5(path: Path, split: str, images: np.ndarray, labels: object, classes: object) -> None:
    """A file as the courses hand it out; what is None is left out."""
    with h5py.File(path, "w") as file:
        for key, value in ((f"{split}_set_x", images), (f"{split}_set_y", labels), ("list_classes", classes)):
            if value is not None:
                file[key] = value


def images_of(paths: Paths, split: str) -> tuple[np.ndarray, pd.DataFrame]:
    """Decoded images (N, H, W, 3) and rows of a split, by the manifest."""
    rows = read_manifest(paths.manifest).query(f"split == '{split}'")
    files = [paths.home / path for path in rows["path"]]
    return np.array([decode(file.read_bytes()) for file in files]), rows


def as_rows(images: np.ndarray) -> np.ndarray:
    """Images (N, 32, 32, 3) as CIFAR-10 has them: (N, 3072), all red before all green before all blue."""
    return images.transpose(0, 3, 1, 2).reshape(len(images), 3072)


def take_all_of_raw(paths: Paths) -> Paths:
    """The competition without the key ``raw``, so that every file in raw/ belongs to it."""
    paths.toml.write_text(re.sub(r"^raw .*\n(    .*\n|\]\n)*", "", paths.toml.read_text(), flags=re.MULTILINE))
    return paths
