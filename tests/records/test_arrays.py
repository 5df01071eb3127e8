"""Images that come as arrays: HDF5 and CIFAR-10's pickles become images and labels, and nothing in them is run."""

from __future__ import annotations

import io
import os
import pickle
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from pipeline.pixels.decode import decode
from pipeline.records.paths import Paths
from pipeline.records.tables import read_manifest
from tests.conftest import Stage

SHIPPED = Path(__file__).parents[2] / "data"
RNG = np.random.default_rng(0)


@pytest.fixture
def place(root: Path) -> Callable[[str], Paths]:
    """Sets up a shipped competition with an empty raw/."""

    def set_up(name: str) -> Paths:
        home = root / "data" / name
        (home / "raw").mkdir(parents=True)
        shutil.copy(SHIPPED / name / "competition.toml", home / "competition.toml")
        return Paths(name)

    return set_up


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
        (lambda path: path.write_bytes(path.read_bytes()[:3000]), "is damaged or not of its kind"),
        (lambda path: path.write_bytes(b"no HDF5"), "is damaged or not of its kind"),
        (lambda path: write_hdf5(path, "train", pixels(4), [0, 1, 0], [b"a", b"b"]), "4 train images but 3 labels"),
        (lambda path: write_hdf5(path, "train", pixels(2), [0, 2], [b"a", b"b"]), "train row 1 has the label 2, but"),
        (lambda path: write_hdf5(path, "train", pixels(2), [0, 1], [b"a", b"../b"]), "cannot be part of a file's name"),
        (lambda path: write_hdf5(path, "train", pixels(2) / 255, [0, 1], [b"a", b"b"]), "they must be uint8"),
        (lambda path: write_hdf5(path, "other", pixels(2), [0, 1], [b"a", b"b"]), "neither 'train_set_x' nor"),
        (lambda path: write_hdf5(path, "train", pixels(2), [0.0, 0.9], None), "row 1 has the label 0.9, which is no"),
        (lambda path: write_hdf5(path, "train", pixels(2), [0, np.nan], None), "row 1 has the label nan, which is no"),
        (lambda path: write_hdf5(path, "train", pixels(2), [0, 1], [b"a", b"a"]), "two of its classes have one name"),
        (lambda path: write_hdf5(path, "train", pixels(2), [0, 1], ["\u732b" * 90, "b"]), "cannot be part of a file's"),
        (lambda path: declare(path, (2**62, 2, 2, 3)), "GB free; free some space"),
        (lambda path: declare(path, (10**9, 1, 1, 3)), "GB free; free some space"),
        (lambda path: declare(path, (4, 1, 70_000, 3)), "1 x 70000 pixels are too large"),
        (lambda path: link_out(path), "no plain dataset of this file"),
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
    assert "both hold train images; name the one that is meant" in failure("prepare", competition="signs")
    text = paths.toml.read_text()
    paths.toml.write_text(text.replace('["*.h5", "*.hdf5"]', '["train_signs.h5"]'))
    stage("prepare", competition="signs")
    assert len(list(paths.images.rglob("*.png"))) == 4
    paths.toml.write_text(text.replace('["*.h5", "*.hdf5"]', '["signs.h5"]'))
    assert "holds nothing of what" in failure("prepare", competition="signs")


# --- CIFAR-10 ---------------------------------------------------------------------------------------------------

NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def as_rows(images: np.ndarray) -> np.ndarray:
    """Images (N, 32, 32, 3) as CIFAR-10 has them: (N, 3072), all red before all green before all blue."""
    return images.transpose(0, 3, 1, 2).reshape(len(images), 3072)


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
        (batch(pixels(4, 32), [0, 1, 2, 3])[:5000], "is damaged or not of its kind"),
        (b"", "is damaged or not of its kind"),
        (pickle.dumps([1, 2]), "is damaged or not of its kind"),
        (pickle.dumps({"labels": [0]}), "has no 'data'"),
        (batch(pixels(2, 32), [0, 12]), "train row 1 has the label 12, but there are 10 classes"),
        (pickle.dumps({"data": np.zeros((2, 10), np.uint8), "labels": [0, 1]}), r"they must be uint8 \(N, 3072\)"),
        (b"cnumpy\nndarray\n(I100000000000000\ntR.", "is damaged or not of its kind"),
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
