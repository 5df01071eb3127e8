"""Images in NumPy's files."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from pipeline.records.paths import Paths
from tests.conftest import Stage
from tests.formats.arrays import images_of, pixels, take_all_of_raw


@pytest.mark.parametrize(("images", "labels"), [("x_{}", "y_{}"), ("{}_images", "{}_labels")])
@pytest.mark.parametrize("grey", [False, True])
def test_train_and_test_images_with_labels(
    place: Callable[[str], Paths], stage: Stage, images: str, labels: str, grey: bool
) -> None:
    paths = take_all_of_raw(place("signs"))
    train, test = (pixels(number)[..., 0] if grey else pixels(number) for number in (600, 12))
    classes = np.arange(600)[:, None] % 3  # MedMNIST has (N, 1)
    arrays = {images.format("train"): train, labels.format("train"): classes, images.format("test"): test}
    np.savez_compressed(paths.raw / "x.npz", allow_pickle=False, **arrays)
    stage("prepare", competition="signs")
    stage("manifest", competition="signs")
    found, rows = images_of(paths, "train")
    order = rows["image_id"].str.rpartition("_")[2].astype(int).to_numpy()
    assert (found == (train[order][..., None] if grey else train[order])).all()
    assert list(rows["label"]) == [str(number % 3) for number in order]
    found, rows = images_of(paths, "test")
    assert list(rows["image_id"]) == [str(row) for row in range(12)]


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"other": np.zeros(3)}, "neither 'x_train' nor"),
        ({"x_train": np.zeros((2, 4, 4))}, "they must be uint8"),
        ({"x_train": np.array([None, 1], dtype=object)}, "array of Python objects"),
        ({"x_train": np.zeros((2, 4, 4), np.uint8), "y_train": np.arange(3)}, "2 train images but 3 labels"),
    ],
)
def test_other_files_are_refused_and_no_code_is_run(
    place: Callable[[str], Paths], failure: Callable[..., str], arrays: dict, said: str
) -> None:
    paths = take_all_of_raw(place("signs"))
    np.savez(paths.raw / "x.npz", allow_pickle=True, **arrays)
    assert said in failure("prepare", competition="signs")
    (paths.raw / "x.npz").write_bytes((paths.raw / "x.npz").read_bytes()[:90])
    assert "is damaged or has the wrong format" in failure("prepare", competition="signs")
