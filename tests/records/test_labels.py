"""How the manifest writes labels."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import pytest

from pipeline.records.competition import Competition, load_competition
from pipeline.records.label_kinds import Kind, find_kind
from pipeline.records.labels import as_in_manifest, check_labels
from pipeline.records.paths import Paths
from pipeline.records.task import read_task
from tests.conftest import Failure, Stage, picture, write_image

SOURCE = {"images": "train", "labels": "train.csv"}


def facts(train: dict | None = None, **keys: object) -> Competition:
    return Competition.model_validate({"title": "t", "train": {**SOURCE, **(train or {})}, **keys})


def cells(*labels: str) -> pd.DataFrame:
    return pd.DataFrame({"label": labels})


def test_several_labels_in_a_cell_are_sorted_as_the_classes_and_checked() -> None:
    table = pd.DataFrame({"name": list("abcde"), "label": ["rust scab", "scab  scab", "", "Scab", "mould scab"]})
    competition = facts(task="multilabel", classes=["scab", "rust"])
    kind = find_kind(table[["label"]], competition, None)
    labels = as_in_manifest(table[["label"]], kind, ["scab", "rust"])
    assert list(labels) == ["scab rust", "scab", "", "Scab", "scab mould"]
    kept, problems = check_labels(table.assign(label=labels), kind, ["scab", "rust"])
    assert list(kept["label"]) == ["scab rust", "scab", "", "scab"]
    assert [problem.problem for problem in problems] == ["label in different case", "label outside classes"]


def test_numbers_that_are_none_are_problems() -> None:
    table = pd.DataFrame({"name": list("abc"), "label": ["1.5", "old", ""]})
    kept, problems = check_labels(table, Kind("regression"), ["age"])
    assert list(kept["label"]) == ["1.5"]
    assert [problem.problem for problem in problems] == ["label is not a number", "no label"]


def test_classes_that_look_alike_are_one_or_a_warning(
    plain: Paths, stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    def classes_of(labels: list[str]) -> tuple[list[str], str]:
        csv_with(plain, " label ", lambda number: labels[number % len(labels)])
        stage("manifest")
        return read_task(plain, load_competition(plain)).target_names, capsys.readouterr().out

    names, said = classes_of([" cat", "dog", "cat ", "Caf\u00e9", "cafe\u0301".capitalize()])
    assert names == ["Caf\u00e9", "cat", "dog"] and "with blanks at an end, or in another form of Unicode" in said
    names, said = classes_of(["cat", "Cat", "dog"])
    assert names == ["Cat", "cat", "dog"] and "WARNING: 'Cat' and 'cat' are different classes" in said
    plain.toml.write_text('classes = ["cat", "dog"]\n' + plain.toml.read_text())
    names, said = classes_of(["cat", "Cat", "dog"])
    assert names == ["cat", "dog"] and "WARNING" not in said and "label in different case" in said


def csv_with(plain: Paths, header: str, row: Callable[[int], str]) -> None:
    rows = "".join(f"Train_{number},{row(number)}\n" for number in range(20))
    (plain.raw / "train.csv").write_text(f"image_id,{header}\n{rows}")


def test_the_label_column_is_named_as_in_the_submission(
    plain: Paths, stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without it, the first column after the id is taken, and this is said."""
    csv_with(plain, "eyes,score", lambda number: f"{number % 2},{number * 3.5}")
    stage("manifest")
    assert "labels: column 'eyes' of train.csv, the first after the id" in capsys.readouterr().out
    text = plain.toml.read_text()
    test = '[test]\nimages = "images"\nids = "sample.csv"\n[submission]\nsample = "sample.csv"\n'
    (plain.raw / "sample.csv").write_text("image_id,score\nTest_1,65.5\n")
    write_image(plain.raw / "images" / "Test_1.png", picture(99))
    plain.toml.write_text(text + test)
    stage("manifest")
    said = capsys.readouterr().out
    assert "labels: column 'score' of train.csv, named as in the submission" in said
    assert "task = 'regression', as the labels are numbers with decimals" in said
    assert read_task(plain, load_competition(plain)).target_names == ["score"]


def test_grades_without_an_order_are_refused(plain: Paths, stage: Stage, failure: Failure) -> None:
    csv_with(plain, "grade", lambda number: ("none", "mild", "severe")[number % 3])
    plain.toml.write_text('task = "ordinal"\n' + plain.toml.read_text())
    assert "set classes in competition.toml to the grades, from the lowest to the highest" in failure("manifest")
    plain.toml.write_text('classes = ["none", "mild", "severe"]\n' + plain.toml.read_text())
    stage("manifest")
    assert read_task(plain, load_competition(plain)).target_names == ["none", "mild", "severe"]
