"""Which file is which row."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.records.paths import Paths
from pipeline.records.tables import read_manifest
from tests.conftest import Edit, Failure, Stage, draw_shape, write_image

TOML = """
title = "Shapes in class folders"
metric = "accuracy"
recipe = "tiny"
[train]
images = "train"
labels = "folders"
[test]
images = "test"
labels = "folders"
optional = true
[folds]
n = 3
[submission]
columns = ["id", "label"]
"""


@pytest.fixture
def folders(root: Path) -> Paths:
    """60 train and 10 test images in class folders; each class is numbered from one."""
    rng = np.random.default_rng(0)
    home = root / "data" / "shapes"
    for kind in ("circle", "square"):
        for split, number in (("train", 30), ("test", 5)):
            for n in range(number):
                write_image(home / "raw" / split / kind / f"{n:03}.png", draw_shape(kind, rng))
    (home / "competition.toml").write_text(TOML)
    return Paths("shapes")


def make_folds(stage: Stage) -> None:
    """The cheap stages."""
    for name in ("prepare", "manifest", "folds"):
        stage(name)


def test_the_test_score_comes_from_the_folders_and_for_one_fold_too(
    folders: Paths, stage: Stage, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_folds(stage)
    manifest = read_manifest(folders.manifest)
    test = manifest[manifest["split"] == "test"]
    assert list(test["image_id"]) == [f"{kind}/{n:03}" for kind in ("circle", "square") for n in range(5)]
    assert set(test["label"]) == {""}
    stage("train", "--fold", "0", "--set", "epochs=12")
    for name in ("predict", "ensemble", "submit"):
        stage(name, "--folds", "0", "--set", "epochs=12")
    csv = root / "submissions" / "shapes" / "tiny~epochs=12~folds=0.csv"
    table = pd.read_csv(csv, dtype=str)
    right = (table["label"] == table["id"].str.partition("/")[0]).mean()
    about = json.loads(csv.with_suffix(".json").read_text())
    assert about["test_score"] == pytest.approx(right)
    said = capsys.readouterr().out
    trained = json.loads((folders.fold("tiny~epochs=12", 0) / "trained.json").read_text())
    on_train = f"{trained['train_score']:.4f} on train images"
    assert f"accuracy {right:.4f} on the known test labels, {on_train}" in said
    assert about["score"]["train_score"] == trained["train_score"] > 0.5
    for picture in ("validation.png", "confusion.png"):
        assert (folders.fold("tiny~epochs=12", 0) / picture).stat().st_size > 5000


def test_without_a_test_folder_it_ends_with_the_score(
    folders: Paths, stage: Stage, failure: Callable[..., str]
) -> None:
    (folders.raw / "test").rename(folders.home / "elsewhere")
    make_folds(stage)
    assert set(read_manifest(folders.manifest)["split"]) == {"train"}
    folders.toml.write_text(TOML.replace("optional = true\n", ""))
    assert "'test', which is neither in" in failure("manifest")


def test_a_label_in_the_pattern_of_the_test_images(folders: Paths, stage: Stage) -> None:
    pattern = "pattern = '^(?P<id>(?P<label>[^/]+)/.+)\\.png$'"
    folders.toml.write_text(TOML.replace('images = "test"\nlabels = "folders"', f'images = "test"\n{pattern}'))
    write_image(folders.raw / "test" / "stray" / "1.png", draw_shape("circle", np.random.default_rng(1)))
    make_folds(stage)
    known = pd.read_csv(folders.test_labels, dtype=str)
    assert len(known) == 10 and set(known["label"]) == {"circle", "square"}  # a label that is no class scores nothing
    problems = folders.problems.read_text()
    assert re.search("test/stray/1.png,label outside classes", problems)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('labels = "folders"\noptional', "optional", "give a pattern with a group"),
        ("optional = true", 'ids = "x.csv"', "takes the ids from the names too"),
        ("optional = true", "pattern = '^(?P<label>[^/]+)/(?P<id>.+)$'", "not from both"),
    ],
)
def test_facts_that_contradict_each_other(
    old: str, new: str, said: str, folders: Paths, failure: Callable[..., str]
) -> None:
    assert old in TOML
    folders.toml.write_text(TOML.replace(old, new))
    assert said in failure("prepare")


@pytest.mark.parametrize("pattern", [r"^(?P<label>(a+)+)$", r"^(?P<label>(\w*)*)\.jpg$", r"(?P<label>(x|xx)+)y"])
def test_a_pattern_that_takes_forever(
    shapes: Paths, failure: Failure, edit: Callable[[str, str], None], pattern: str
) -> None:
    for letter in "ax":
        write_image(shapes.raw / "train" / (letter * 60 + ".png"), np.zeros((9, 9, 3), np.uint8))
    edit(r"^(?P<label>.*?)_(?P<id>\d+)\.png$", pattern)
    began = time.process_time()
    assert "takes too long on the name" in failure("manifest")
    assert time.process_time() - began < 4


def test_a_pattern_that_matches_nothing_shows_three_names(shapes: Paths, failure: Failure, edit: Edit) -> None:
    edit(r"\d+)\.png$'", r"\d+)\.jpeg$'")
    message = failure("manifest")
    assert "matches none of the 60 files" in message and message.count(".png'") == 3


def test_an_empty_and_a_missing_folder(shapes: Paths, failure: Failure) -> None:
    for path in (shapes.raw / "train").iterdir():
        path.unlink()
    assert "is empty" in failure("manifest")
    (shapes.raw / "train").rmdir()
    assert "names 'train', which is neither in" in failure("manifest")


def test_two_test_files_with_one_id(shapes: Paths, failure: Failure, edit: Edit) -> None:
    edit(r"^(?P<id>\d+)\.png$", r"^0*(?P<id>\d+)\.png$")
    shutil.copy(shapes.raw / "test" / "7.png", shapes.raw / "test" / "007.png")
    message = failure("manifest")
    assert "id '7'" in message and "'007.png' and '7.png'" in message


def test_a_csv_without_the_named_column(shapes: Paths, failure: Failure, edit: Edit) -> None:
    (shapes.raw / "labels.csv").write_text("image,class\nsquare_1,square\n")
    edit(r"pattern = '^(?P<label>.*?)_(?P<id>\d+)\.png$'", 'labels = "labels.csv"\nlabel_column = "clas"')
    assert "no column 'clas'; did you mean 'class'?" in failure("manifest")
