"""Rows from file names, CSVs and folders; every finding named."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pandas as pd
import pytest

from pipeline.records.paths import Paths
from pipeline.records.tables import read_manifest
from tests.conftest import Failure, Stage

Edit = Callable[[str, str], None]
TRAIN_PATTERN = r"pattern = '^(?P<label>.*?)_(?P<id>\d+)\.png$'"
TEST_PATTERN = r"pattern = '^(?P<id>\d+)\.png$'"


def problems_of(paths: Paths) -> dict[str, set[str]]:
    """File names by kind of problem."""
    table = pd.read_csv(paths.problems)
    names = table["path"].str.rsplit("/", n=1).str[-1]
    return {kind: set(names[table["problem"] == kind]) for kind in table["problem"].unique()}


def test_rows_from_file_names(shapes: Paths, stage: Stage) -> None:
    stage("manifest")
    table = read_manifest(shapes.manifest)
    assert list(table["split"]) == ["train"] * 60 + ["test"] * 11
    assert list(table["image_id"][60:]) == [str(number) for number in range(1, 12)]
    row = table.iloc[0]
    assert (row["image_id"], row["path"], row["label"]) == ("circle_0", "raw/train/circle_0.png", "circle")
    assert (row["width"], row["height"], len(row["sha256"])) == (20, 20, 64)
    first = shapes.manifest.read_bytes()
    stage("manifest")
    assert shapes.manifest.read_bytes() == first


@pytest.mark.parametrize("extension", ["", ".png"])
def test_labels_from_a_csv_with_ids_with_or_without_extension(
    shapes: Paths, stage: Stage, edit: Edit, extension: str
) -> None:
    names = sorted(path.stem for path in (shapes.raw / "train").iterdir())
    rows = "".join(f"{name.split('_')[0].upper()},{name}{extension},site{n % 7}\n" for n, name in enumerate(names))
    (shapes.raw / "labels.csv").write_text("Class,ID,Site\n" + rows)
    edit(TRAIN_PATTERN, 'labels="labels.csv"\nid_column="ID"\nlabel_column="Class"\ngroup_column="Site"')
    stage("manifest")
    train = read_manifest(shapes.manifest).query("split == 'train'")
    assert list(train["image_id"]) == names
    assert (train["label"] == train["image_id"].str.split("_").str[0].str.upper()).all()
    assert train["group"].nunique() == 7


def test_a_csv_that_names_too_much_and_too_little(shapes: Paths, stage: Stage, edit: Edit) -> None:
    names = sorted(path.stem for path in (shapes.raw / "train").iterdir())[1:]
    rows = "".join(f"{name},{name.split('_')[0]}\n" for name in [*names, "ghost_1"])
    (shapes.raw / "labels.csv").write_text("id,label\n" + rows)
    edit(TRAIN_PATTERN, 'labels = "labels.csv"\nmax_bad = 0.05')
    stage("manifest")
    assert problems_of(shapes) == {"file missing": {"ghost_1"}, "no label": {"circle_0.png"}}


def test_labels_from_class_folders(shapes: Paths, stage: Stage, edit: Edit) -> None:
    for path in sorted((shapes.raw / "train").iterdir()):
        folder = path.parent / path.stem.split("_")[0]
        folder.mkdir(exist_ok=True)
        path.rename(folder / f"{int(path.stem.split('_')[1]):04}.png")
    shutil.copy(shapes.raw / "test" / "1.png", shapes.raw / "train" / "stray.png")
    edit(TRAIN_PATTERN, 'labels = "folders"\nmax_bad = 0.05')
    stage("manifest")
    train = read_manifest(shapes.manifest).query("split == 'train'")
    assert train["image_id"].iloc[0] == "circle/0000" and train["label"].value_counts().to_dict() == {
        "circle": 30,
        "square": 30,
    }
    assert problems_of(shapes)["name does not match"] == {"stray.png"}


def test_test_rows_from_the_sample_submission_of_a_hidden_test_set(shapes: Paths, stage: Stage, edit: Edit) -> None:
    (shapes.raw / "test" / "3.png").unlink()
    edit(TEST_PATTERN, 'ids = "sample_submission.csv"\nmax_missing = 0.1')
    stage("manifest")
    test = read_manifest(shapes.manifest).query("split == 'test'").set_index("image_id")
    assert len(test) == 11 and test.loc["3", "width"] == 0 and test.loc["3", "path"] == ""
    assert problems_of(shapes)["file missing"] == {"3"}


def test_identical_images_are_found_within_and_across_the_splits(shapes: Paths, stage: Stage) -> None:
    train, test = shapes.raw / "train", shapes.raw / "test"
    shutil.copy(train / "circle_0.png", train / "circle_100.png")
    shutil.copy(train / "circle_2.png", train / "square_101.png")
    shutil.copy(train / "circle_4.png", test / "11.png")
    stage("manifest")
    found = problems_of(shapes)
    assert found["identical"] == {"circle_100.png"}
    assert found["identical with another label"] == {"square_101.png"}
    assert found["identical in train and test"] == {"11.png"}


def test_labels_outside_the_classes_and_in_other_letters(shapes: Paths, stage: Stage, edit: Edit) -> None:
    train = shapes.raw / "train"
    (train / "circle_0.png").rename(train / "CIRCLE_0.png")
    (train / "circle_2.png").rename(train / "hexagon_2.png")
    edit('recipe  = "tiny"', 'recipe = "tiny"\nclasses = ["circle", "square"]')
    edit("[test]", "max_bad = 0.02\n[test]")
    stage("manifest")
    found = problems_of(shapes)
    assert found == {"label outside classes": {"hexagon_2.png"}, "label in different case": {"CIRCLE_0.png"}}
    table = read_manifest(shapes.manifest).set_index("image_id")
    assert table.loc["CIRCLE_0", "label"] == "circle" and "hexagon_2" not in table.index


def test_two_files_of_one_stem_keep_their_extensions(shapes: Paths, stage: Stage, edit: Edit) -> None:
    shutil.copy(shapes.raw / "train" / "circle_2.png", shapes.raw / "train" / "circle_0.PNG")
    edit(r"(?P<id>\d+)\.png$'" + "\n[test]", r"(?P<id>\d+)\.(?i:png)$'" + "\n[test]")
    stage("manifest")
    assert {"circle_0.png", "circle_0.PNG"} <= set(read_manifest(shapes.manifest)["image_id"])


def test_every_problem_of_the_broken_set_is_named(
    shared_competition: Callable[[str], Paths], stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = shared_competition("broken")
    for name in ("prepare", "manifest", "folds"):
        stage(name, competition="broken")
    found = problems_of(paths)
    assert found["unreadable"] == {"cat.1.jpg", "dog.2.jpg", "cat.7.jpg"}
    assert found["name does not match"] == {"IMG-final(2).jpg"}
    assert found["wrong type for its extension"] == {"dog.8.jpg"}
    assert found["more than 8 bits"] == {"cat.9.png"}
    assert found["transparent"] == {"dog.10.png"}
    assert found["CMYK"] == {"cat.11.jpg"}
    assert found["label in different case"] == {"DOG.12.JPG"}
    assert found["animated"] == {"cat.13.gif"}
    assert found["tiny"] == {"dog.14.jpg"}
    assert found["stored rotated"] == {"cat.15.jpg"}
    assert found["identical with another label"] == {"dog.21.jpg"}
    assert found["duplicate id"] == {"cat.5.jpg", "dog.5.jpg"}
    for fold in ("0", "1"):
        stage("train", "--fold", fold, "--recipe", "tiny", competition="broken")
    for name in ("predict", "ensemble"):
        stage(name, "--recipe", "tiny", competition="broken")
    assert "out-of-fold accuracy" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "train", "test", "classes"),
    [("dogs-vs-cats", 1602, 400, 2), ("cat-vs-humpback", 6000, 2000, 2), ("street-view-characters", 2502, 699, 62)],
)
def test_the_shipped_competitions_on_their_real_images(
    shared_competition: Callable[[str], Paths], stage: Stage, name: str, train: int, test: int, classes: int
) -> None:
    paths = shared_competition(name)
    for step in ("prepare", "manifest", "folds"):
        stage(step, competition=name)
    table = read_manifest(paths.manifest)
    assert table["split"].value_counts().to_dict() == {"train": train, "test": test}
    assert table["label"].nunique() == classes + 1  # test rows have none
    folds = pd.read_csv(paths.folds, dtype=str)
    assert len(folds) == train and folds.groupby("fold").size().max() - folds.groupby("fold").size().min() <= 2


def test_one_folder_holds_both_splits(shapes: Paths, stage: Stage, edit: Edit) -> None:
    both = shapes.raw / "all"
    (shapes.raw / "train").rename(both)
    for path in (shapes.raw / "test").iterdir():
        path.rename(both / path.name)
    edit('images  = "train"', 'images = "all"')
    edit('images  = "test"', 'images = "all"')
    stage("manifest")
    assert list(read_manifest(shapes.manifest)["split"].value_counts()) == [60, 11]
    assert problems_of(shapes) == {}


def test_images_that_change_after_training_are_noticed(
    shapes: Paths, stage: Stage, failure: Callable[..., str]
) -> None:
    for name in ("manifest", "folds"):
        stage(name)
    stage("train", "--fold", "0")
    stage("predict", "--folds", "0")
    one, two = shapes.raw / "test" / "1.png", shapes.raw / "test" / "2.png"
    shutil.copy(one, two)
    stage("manifest")
    assert "the images have changed since fold 0" in failure("ensemble", "--folds", "0")
    shutil.copy(one, shapes.raw / "train" / "square_1.png")
    stage("manifest")
    assert "train_images_sha256 differs" in failure("predict", "--folds", "0")


def test_too_many_bad_files(shapes: Paths, failure: Failure) -> None:
    for number in range(0, 8, 2):
        (shapes.raw / "train" / f"circle_{number}.png").write_bytes(b"")
    message = failure("manifest")
    assert "4 of 60 train files cannot be used (4 unreadable)" in message and "max_bad" in message
    assert shapes.problems.read_text().count("the file is empty") == 4
