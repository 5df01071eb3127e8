"""Images in CIFAR-10's pickles, of which nothing is run."""

from __future__ import annotations

import os
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.records.paths import Paths
from tests.conftest import Stage
from tests.formats.arrays import as_rows, images_of, pixels, take_all_of_raw

RNG = np.random.default_rng(0)


NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def batch(images: np.ndarray, labels: list[int], protocol: int = 2) -> bytes:
    """A batch of Python 2 (keys are bytes) or of Python 3."""
    content = {"batch_label": "one", "labels": labels, "data": as_rows(images), "filenames": ["x.png"] * len(labels)}
    if protocol == 2:
        return pickle.dumps({key.encode(): value for key, value in content.items()}, protocol)
    return pickle.dumps(content, protocol)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("protocol", [2, 4])
def test_cifar_pickles(packed: bool, protocol: int, place: Callable[[str], Paths], stage: Stage) -> None:
    paths = place("cifar-10-batches")
    images, labels = pixels(30, 32), [number % 10 for number in range(30)]
    files = {
        "data_batch_1": batch(images[:10], labels[:10], protocol),
        "data_batch_2": batch(images[10:20], labels[10:20], protocol),
        "test_batch": batch(images[20:], labels[20:], protocol),
        "batches.meta": pickle.dumps({b"label_names": [name.encode() for name in NAMES]}, 2),
    }
    if packed:
        with zipfile.ZipFile(paths.raw / "cifar-10-python.zip", "w") as archive:
            for name, content in files.items():
                archive.writestr(f"cifar-10-batches-py/{name}", content)
    else:
        for name, content in files.items():
            (paths.raw / name).write_bytes(content)
    stage("prepare", competition="cifar-10-batches")
    stage("manifest", competition="cifar-10-batches")
    found, rows = images_of(paths, "train")
    order = rows["image_id"].str.rpartition("_")[2].astype(int)
    assert sorted(order) == list(range(20)) and (found == images[order]).all()
    assert list(rows["label"]) == [NAMES[labels[number]] for number in order]
    found, rows = images_of(paths, "test")
    assert (found == images[20:]).all()
    assert list(pd.read_csv(paths.test_labels)["label"]) == [NAMES[label] for label in labels[20:]]
    assert not list(paths.images.rglob("*_batch*"))  # the pickles themselves are not kept twice


def test_cifar_100(place: Callable[[str], Paths], stage: Stage) -> None:
    """The files train, test and meta, of which the fine labels are taken (as torchvision's CIFAR100 reads them)."""
    paths = take_all_of_raw(place("cifar-10-batches"))
    images, fine = pixels(30, 32), [number % 10 for number in range(30)]
    folder = paths.raw / "cifar-100-python"
    folder.mkdir()

    def content(rows: slice) -> bytes:
        parts = {b"data": as_rows(images[rows]), b"fine_labels": fine[rows], b"coarse_labels": [0] * len(fine[rows])}
        return pickle.dumps(parts, 2)

    (folder / "train").write_bytes(content(slice(20)))
    (folder / "test").write_bytes(content(slice(20, 30)))
    names = {b"fine_label_names": [name.encode() for name in NAMES], b"coarse_label_names": [b"thing"]}
    (folder / "meta").write_bytes(pickle.dumps(names, 2))
    stage("prepare", competition="cifar-10-batches")
    stage("manifest", competition="cifar-10-batches")
    found, rows = images_of(paths, "train")
    order = rows["image_id"].str.rpartition("_")[2].astype(int)
    assert (found == images[order]).all() and list(rows["label"]) == [NAMES[fine[number]] for number in order]
    found, rows = images_of(paths, "test")
    assert (found == images[20:]).all()


class Evil:
    """A pickle that would run a command."""

    def __reduce__(self) -> tuple:
        return os.system, ("touch was_run",)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (pickle.dumps({"data": Evil(), "labels": [0]}), "asks for (posix|nt).system, which is neither"),
        (b"cbuiltins\neval\n(Vopen('was_run', 'w')\ntR.", "asks for builtins.eval, which is neither"),
        (b"cnumpy\nload\n(Vx\ntR.", "asks for numpy.load, which is neither"),
        (batch(pixels(4, 32), [0, 1, 2, 3])[:5000], "is damaged or has the wrong format"),
        (b"", "is damaged or has the wrong format"),
        (pickle.dumps([1, 2]), "is damaged or has the wrong format"),
        (pickle.dumps({"labels": [0]}), "has no 'data'"),
        (batch(pixels(2, 32), [0, 12]), "train row 1 has the label 12, but there are 10 classes"),
        (pickle.dumps({"data": np.zeros((2, 10), np.uint8), "labels": [0, 1]}), r"they must be uint8 \(N, 3072\)"),
        (b"cnumpy\nndarray\n(I100000000000000\ntR.", "is damaged or has the wrong format"),
        # Pointers for labels, by a type of objects or by one with parts of that type: reading one would crash or worse.
        (pickle.dumps({"data": as_rows(pixels(4, 32)), "labels": np.zeros(4, "V8")}, 2), "of the type V8"),
        (pickle.dumps({"data": as_rows(pixels(4, 32)), "labels": np.zeros(4, "u1,O")}, 2), "of the type"),
        (pickle.dumps({"data": as_rows(pixels(1, 32)), "labels": np.array([None])}, 2), "of the type O8"),
        (pickle.dumps({"data": as_rows(pixels(2, 32)), "labels": [0, 0.5]}, 2), "row 1 has the label 0.5"),
    ],
)
def test_pickles_that_do_not_serve(
    content: bytes, said: str, place: Callable[[str], Paths], root: Path, failure: Callable[..., str]
) -> None:
    paths = place("cifar-10-batches")
    (paths.raw / "data_batch_1").write_bytes(content)
    (paths.raw / "batches.meta").write_bytes(pickle.dumps({b"label_names": NAMES}, 2))
    message = failure("prepare", competition="cifar-10-batches")
    assert re.search(said, message), message
    assert not list(root.rglob("was_run"))
