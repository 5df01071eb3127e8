"""Guesses about the files of a competition."""

from __future__ import annotations

from pathlib import Path

from pipeline.records.paths import Paths
from pipeline.tools.looking import common_folder, folders_named, image_folders, look
from tests.shapes import Files, csv, pictures, put


def found(root: Path, files: Files) -> Paths:
    put(files, root / "data" / "x" / "raw")
    return Paths("x")


def test_folders_and_what_they_contain(root: Path) -> None:
    names = ["a/train/1.jpg", "a/train/cat/2.jpg", "a/test/3.jpg", "train_masks/4.png", "a/train/notes.txt"]
    folders = image_folders(found(root, pictures(names)))
    assert [(one.name, one.images) for one in folders if one.depth < 2] == [("raw", 4), ("a", 3), ("train_masks", 1)]
    assert [one.name for one in folders_named(folders, "train")] == ["a/train"]
    assert common_folder(folders).name == "raw"


def test_class_folders_beside_a_test_folder(root: Path) -> None:
    names = [f"pets/{kind}/{n}.jpg" for kind in ("cat", "dog") for n in range(6)]
    seen = look(found(root, pictures([*names, "pets/unknown_test/9.jpg"])))
    assert (seen.train, seen.labels, seen.test) == (["pets"], "folders", ["pets/unknown_test"])
    assert not seen.test_has_classes


def test_test_images_in_the_same_class_folders(root: Path) -> None:
    names = [f"{split}/{kind}/{n}.jpg" for split in ("train", "test") for kind in ("cat", "dog") for n in range(4)]
    assert look(found(root, pictures(names))).test_has_classes


def test_a_csv_that_names_few_of_the_images_is_not_the_one(root: Path) -> None:
    files = pictures(f"train/{n}_{('x', 'y')[n % 2]}.jpg" for n in range(12))
    files["meta.csv"] = csv("id,text", ((f"other{n}", "a") for n in range(12)))
    seen = look(found(root, files))
    assert seen.labels == "" and seen.pattern == r"^(?P<id>\d+)[._-](?P<label>.+?)\.[^.]+$"


def test_the_sample_shows_the_columns_of_labels_and_their_csv(root: Path) -> None:
    files = pictures(f"train/{n}.jpg" for n in range(12))
    files["a_cameras.csv"] = csv("Image,camera", ((n, "c1") for n in range(12)))
    files["b_labels.csv"] = csv(",Image,species,individual", ((n, n, "whale", f"w{n % 3}") for n in range(12)))
    files["sample_submission.csv"] = csv("Image,predictions", ((n, "w0 w1 w2") for n in (50, 51)))
    seen = look(found(root, files))
    assert (seen.labels, seen.label_column) == ("b_labels.csv", "individual")
    assert seen.ids is not None and seen.ids.column == "Image"


def test_images_without_extension_are_found(root: Path) -> None:
    files = pictures(f"train/{kind}/{n}" for kind in "ab" for n in range(4))
    files["train/LICENSE"] = b"text"
    assert (look(found(root, files)).train, look(Paths("x")).labels) == (["train"], "folders")
