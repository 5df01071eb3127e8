"""Images that come as arrays, from several files."""

from __future__ import annotations

import io
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from pipeline.records.paths import Paths
from tests.conftest import Stage
from tests.formats.arrays import as_rows, images_of, pixels, write_hdf5

RNG = np.random.default_rng(0)


def test_a_file_that_is_written_over_is_read_again(place: Callable[[str], Paths], stage: Stage) -> None:
    paths = place("signs")
    for number in (30, 20):
        write_hdf5(paths.raw / "train.h5", "train", pixels(number), np.arange(number) % 2, [b"a", b"b"])
        stage("prepare", competition="signs")
        assert len(list(paths.images.rglob("*.png"))) == number
    (paths.raw / "train.h5").unlink()  # to save space
    stage("prepare", competition="signs")
    assert len(list(paths.images.rglob("*.png"))) == 20


def test_what_two_sources_hold(place: Callable[[str], Paths], failure: Callable[..., str], stage: Stage) -> None:
    """Nothing is written over, and no folder shadows another; a model in an archive is no set of images."""
    paths = place("signs")
    paths.toml.write_text(paths.toml.read_text().replace('raw        = ["*.h5", "*.hdf5"]\n', ""))
    write_hdf5(paths.raw / "train.h5", "train", pixels(4), [0, 1, 0, 1], [b"a", b"b"])
    model = paths.home / "model.h5"
    write_hdf5(model, "weights", pixels(1), None, None)
    with zipfile.ZipFile(paths.raw / "all.zip", "w") as archive:
        archive.write(model, "models/model.h5")
        archive.writestr("train/a_0.png", b"another")
    assert "and an archive both hold 'train/a_0.png'" in failure("prepare", competition="signs")
    (paths.raw / "train.h5").unlink()
    stage("prepare", competition="signs")
    assert (paths.images / "train" / "a_0.png").read_bytes() == b"another"
    (paths.raw / "all.zip").unlink()
    write_hdf5(paths.raw / "train.h5", "train", pixels(4), [0, 1, 0, 1], [b"a", b"b"])
    (paths.raw / "train").mkdir()
    assert "both hold train images" in failure("prepare", competition="signs")


def test_two_files_of_one_split(place: Callable[[str], Paths], failure: Callable[..., str], stage: Stage) -> None:
    paths = place("signs")
    for name in ("train_signs.h5", "train_signs_2.h5"):
        write_hdf5(paths.raw / name, "train", pixels(4), [0, 1, 0, 1], [b"a", b"b"])
    assert "both hold train images; choose one of them" in failure("prepare", competition="signs")
    text = paths.toml.read_text()
    paths.toml.write_text(text.replace('["*.h5", "*.hdf5"]', '["train_signs.h5"]'))
    stage("prepare", competition="signs")
    assert len(list(paths.images.rglob("*.png"))) == 4
    paths.toml.write_text(text.replace('["*.h5", "*.hdf5"]', '["signs.h5"]'))
    assert "matches raw = ['signs.h5']" in failure("prepare", competition="signs")


NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def test_the_real_ones(shared_data: Path, place: Callable[[str], Paths], stage: Stage) -> None:
    """The 4,000 images of the shared archive, against pickle itself."""
    paths = place("cifar-10-batches")
    for path in (shared_data / "cifar-10").glob("*.zip"):  # two sets: the TOML names its own
        shutil.copy(path, paths.raw)
    stage("prepare", competition="cifar-10-batches")
    stage("manifest", competition="cifar-10-batches")
    with zipfile.ZipFile(paths.raw / "cifar-10-batches-py.zip") as archive:
        content = archive.read("cifar-10-batches-py/data_batch_1")
    theirs = pickle.load(io.BytesIO(content), encoding="bytes")
    found, rows = images_of(paths, "train")
    order = rows["image_id"].str.rpartition("_")[2].astype(int)
    assert len(rows) == 2000 and (as_rows(found) == theirs[b"data"][order]).all()
    assert list(rows["label"]) == [NAMES[theirs[b"labels"][number]] for number in order]


def test_a_picture_in_train_and_test_is_named(
    shared_competition: Callable[[str], Paths], stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    """The course's cats hold one twice; what is compared are pixels, since both became PNG the same way."""
    paths = shared_competition("cat-vs-noncat")
    for name in ("prepare", "manifest"):
        stage(name, competition="cat-vs-noncat")
    assert "identical in train and test: 1 file" in capsys.readouterr().out
    with h5py.File(paths.raw / "train_catvnoncat.h5") as train, h5py.File(paths.raw / "test_catvnoncat.h5") as test:
        twins = np.argwhere([[(a == b).all() for a in train["train_set_x"][:]] for b in test["test_set_x"][:]])
    problems = pd.read_csv(paths.problems, dtype=str).query("problem == 'identical in train and test'")
    (of_test, of_train), row = twins[0], problems.iloc[0]
    assert len(twins) == 1 and row["path"].endswith(f"_{of_test}.png") and f"_{of_train}.png" in row["detail"]
