"""Images in HDF5 files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from pipeline.records.paths import Paths
from tests.conftest import Stage
from tests.formats.arrays import images_of, pixels, write_hdf5

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("classes", [np.array([b"non-cat", b"cat"]), np.array([7, 8]), None])
@pytest.mark.parametrize("labelled_test", [True, False])
def test_hdf5(classes: np.ndarray | None, labelled_test: bool, place: Callable[[str], Paths], stage: Stage) -> None:
    """Bytes or ints as class names, or none; labels (N,) or (1, N); a test split with labels or without."""
    paths = place("signs")
    train, labels, test, answers = pixels(30), np.arange(30) % 2, pixels(12), np.arange(12) % 2
    write_hdf5(paths.raw / "train.h5", "train", train, labels[None], classes)
    write_hdf5(paths.raw / "test.hdf5", "test", test, answers if labelled_test else None, classes)
    stage("prepare", competition="signs")
    stage("manifest", competition="signs")
    names = ["0", "1"] if classes is None else [c.decode() if isinstance(c, bytes) else str(c) for c in classes]
    found, rows = images_of(paths, "train")
    order = rows["image_id"].str.rpartition("_")[2].astype(int)
    assert (found == train[order]).all()
    assert [names[label] for label in labels[order]] == list(rows["label"])
    found, rows = images_of(paths, "test")
    assert list(rows["image_id"]) == [str(row) for row in range(12)] and (found == test).all()
    assert set(rows["label"]) == {""}  # known to submit alone
    known = pd.read_csv(paths.test_labels, dtype=str)
    assert dict(zip(known["id"], known["label"], strict=True)) == (
        {str(row): names[label] for row, label in enumerate(answers)} if labelled_test else {}
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:3000]), "is damaged or has the wrong format"),
        (lambda path: path.write_bytes(b"no HDF5"), "is damaged or has the wrong format"),
        (lambda path: write_hdf5(path, "train", pixels(4), [0, 1, 0], [b"a", b"b"]), "4 train images but 3 labels"),
        (lambda path: write_hdf5(path, "train", pixels(2), [0, 2], [b"a", b"b"]), "train row 1 has the label 2, but"),
        (lambda path: write_hdf5(path, "train", pixels(2), [0, 1], [b"a", b"../b"]), "cannot be part of a file's name"),
        (lambda path: write_hdf5(path, "train", pixels(2) / 255, [0, 1], [b"a", b"b"]), "they must be uint8"),
        (lambda path: write_hdf5(path, "other", pixels(2), [0, 1], [b"a", b"b"]), "neither 'train_set_x' nor"),
        (lambda path: write_hdf5(path, "train", pixels(2), [0.0, 0.9], None), "row 1 has the label 0.9, which is no"),
        (lambda path: write_hdf5(path, "train", pixels(2), [0, np.nan], None), "row 1 has the label nan, which is no"),
        (lambda path: write_hdf5(path, "train", pixels(2), [0, 1], [b"a", b"a"]), "classes have the same name"),
        (lambda path: write_hdf5(path, "train", pixels(2), [0, 1], ["\u732b" * 90, "b"]), "cannot be part of a file's"),
        (lambda path: declare(path, (2**62, 2, 2, 3)), "GB free; free some space"),
        (lambda path: declare(path, (10**9, 1, 1, 3)), "GB free; free some space"),
        (lambda path: declare(path, (4, 1, 70_000, 3)), "1 x 70000 pixels are too large"),
        (lambda path: link_out(path), "not a plain dataset of this file"),
    ],
)
def test_hdf5_that_does_not_serve(
    change: Callable[[Path], object], said: str, place: Callable[[str], Paths], failure: Callable[..., str]
) -> None:
    paths = place("signs")
    path = paths.raw / "train_signs.h5"
    write_hdf5(path, "train", pixels(30), np.arange(30) % 2, [b"a", b"b"])
    change(path)
    message = failure("prepare", competition="signs")
    assert said in message and path.name in message
    assert not paths.images.exists()  # nothing half made is left


def declare(path: Path, shape: tuple[int, ...]) -> None:
    """A small file that says it holds much."""
    with h5py.File(path, "w") as file:
        file.create_dataset("train_set_x", shape, np.uint8, chunks=(1, *shape[1:]))


def link_out(path: Path) -> None:
    """An HDF5 file whose images lie in another one."""
    with h5py.File(path, "w") as file:
        file["train_set_x"] = h5py.ExternalLink("/etc/passwd", "x")


def test_grey_images(place: Callable[[str], Paths], stage: Stage) -> None:
    paths = place("signs")
    grey = pixels(20)[..., 0]
    write_hdf5(paths.raw / "train.h5", "train", grey, np.arange(20) % 2, [b"a", b"b"])
    (paths.home / "competition.toml").write_text(paths.toml.read_text().replace("[test]", "[test]\noptional = true"))
    stage("prepare", competition="signs")
    stage("manifest", competition="signs")
    found, rows = images_of(paths, "train")
    order = rows["image_id"].str.rpartition("_")[2].astype(int)
    assert (found == grey[order][..., None]).all()
