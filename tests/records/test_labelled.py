"""Train files with their labels and groups, before any image is looked at."""

from __future__ import annotations

import pytest

from pipeline.records.competition import load_competition
from pipeline.records.labelled import read_labels
from pipeline.records.paths import Paths
from pipeline.system.errors import InputError
from tests.conftest import Edit


def test_files_of_the_test_set_in_the_same_folder_are_left_out(plain: Paths) -> None:
    text = plain.toml.read_text().replace("[folds]", '[test]\nimages = "images"\nids = "test.csv"\n[folds]')
    plain.toml.write_text(text + '[submission]\ncolumns = ["id", "label"]\n')
    (plain.raw / "test.csv").write_text("id\nTrain_3\nTrain_4\n")
    (plain.raw / "train.csv").write_text("image_id,label\n" + "".join(f"Train_{n},{'ab'[n % 2]}\n" for n in range(3)))
    found = read_labels(plain, load_competition(plain))
    assert list(found.table["name"]) == ["Train_0.png", "Train_1.png", "Train_2.png"]
    assert len(found.images.names) == 18 and found.kind.name == "classification"
    assert {problem.problem for problem in found.problems} == {"no label"} and found.files == 18


def test_rows_that_say_the_same_of_an_image_are_one(plain: Paths, edit: Edit) -> None:
    rows = "".join(f"Train_{n},{'ab'[n % 2]},{box}\n" for n in range(20) for box in range(1 + n % 2))
    (plain.raw / "train.csv").write_text("image_id,label,box\n" + rows)
    found = read_labels(plain, load_competition(plain))
    assert len(found.table) == 20 and not found.problems
    (plain.raw / "train.csv").write_text("image_id,label\nTrain_1,a\nTrain_1,b\n")
    with pytest.raises(InputError, match="contains the id 'Train_1' more than once"):
        read_labels(plain, load_competition(plain))
