"""Image files inside HDF5."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from pipeline.records.paths import Paths
from pipeline.records.tables import read_manifest
from tests.archives import zip_of
from tests.conftest import Failure, Stage, picture

TOML = """
title = "Skin"
recipe = "tiny"
[train]
images = "train-image.hdf5"
labels = "train.csv"
[test]
images = "test-image.hdf5"
ids = "test.csv"
[folds]
n = 2
[submission]
columns = ["isic_id", "target"]
"""


def jpeg(number: int) -> bytes:
    """A JPEG that ends with zeros, as some cameras write."""
    buffer = io.BytesIO()
    Image.fromarray(picture(number)).save(buffer, "JPEG")
    return buffer.getvalue() + bytes(3)


FORMS: dict[str, Callable[[bytes], object]] = {
    "void": np.void,
    "fixed": lambda content: np.array(content, dtype=f"S{len(content)}"),
    "list of bytes": lambda content: np.frombuffer(content, np.uint8),
}


def write(path: Path, ids: list[str], form: str) -> None:
    with h5py.File(path, "w") as file:
        for number, name in enumerate(ids):
            if form == "variable":
                dataset = file.create_dataset(name, (), dtype=h5py.vlen_dtype(np.uint8))
                dataset[()] = np.frombuffer(jpeg(number), np.uint8)
            else:
                file[name] = FORMS[form](jpeg(number))


@pytest.fixture
def skin(root: Path) -> Paths:
    home = root / "data" / "shapes"
    (home / "raw").mkdir(parents=True)
    (home / "competition.toml").write_text(TOML)
    (home / "raw" / "train.csv").write_text("isic_id,target\n" + "".join(f"ISIC_{n},{n % 2}\n" for n in range(20)))
    (home / "raw" / "test.csv").write_text("isic_id\nISIC_7\nISIC_1\n")
    return Paths("shapes")


def test_a_file_from_an_archive_is_found_by_its_name(skin: Paths, stage: Stage) -> None:
    for split, ids in (("train", range(20)), ("test", (1, 7))):
        write(skin.home / "x.h5", [f"ISIC_{n}" for n in ids], "void")
        (skin.raw / f"{split}.zip").write_bytes(zip_of({f"{split}-image.hdf5": (skin.home / "x.h5").read_bytes()}))
    (skin.home / "x.h5").unlink()
    stage("prepare")
    stage("manifest")
    assert set(read_manifest(skin.manifest)["path"].str.rsplit("/", n=1).str[0]) == {
        "images/train-image",
        "images/test-image",
    }


@pytest.mark.parametrize("form", [*FORMS, "variable"])
def test_each_id_becomes_a_file_with_the_same_bytes(skin: Paths, stage: Stage, form: str) -> None:
    write(skin.raw / "train-image.hdf5", [f"ISIC_{n}" for n in range(20)], form)
    write(skin.raw / "test-image.hdf5", ["ISIC_1", "ISIC_7"], form)
    stage("prepare")
    assert (skin.images / "train-image" / "ISIC_3.jpg").read_bytes() == jpeg(3)
    stage("manifest")
    manifest = read_manifest(skin.manifest)
    assert list(manifest["split"]).count("train") == 20
    assert list(manifest["image_id"][manifest["split"] == "test"]) == ["ISIC_1", "ISIC_7"]


def test_two_files_with_one_name_and_a_folder_with_it(
    skin: Paths, stage: Stage, failure: Failure, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in "ab":
        (skin.raw / folder).mkdir()
        write(skin.raw / folder / "x.h5", ["1", "2"], "void")
    assert "both hold 'x/1.jpg'" in failure("prepare")
    for folder in "ab":
        (skin.raw / folder / "x.h5").unlink()
    write(skin.home / "x.h5", [f"ISIC_{n}" for n in range(20)], "void")  # as ISIC 2024 has both
    files = {f"train-image/image/ISIC_{n}.jpg": jpeg(n) for n in range(20)}
    files["train-image.hdf5"] = (skin.home / "x.h5").read_bytes()
    (skin.raw / "isic.zip").write_bytes(zip_of(files))
    stage("prepare")
    assert not list(skin.images.rglob("*.hdf5")) and "20 files from isic.zip" in capsys.readouterr().out
    write(skin.raw / "test-image.hdf5", ["ISIC_1", "ISIC_7"], "void")
    stage("prepare")
    assert "train-image.hdf5 is not unpacked, since there is a folder train-image/" in capsys.readouterr().out
    stage("manifest")
    assert (read_manifest(skin.manifest)["split"] == "train").sum() == 20


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [("x", b"text", "'x' is not the content of an image file"), (".x", jpeg(0), "cannot be part of a file's name")],
)
def test_other_content_is_named(skin: Paths, failure: Failure, name: str, content: bytes, said: str) -> None:
    with h5py.File(skin.raw / "x.h5", "w") as file:
        file[name] = np.void(content)
    assert said in failure("prepare")
    assert not skin.images.exists()
