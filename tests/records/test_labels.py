"""Which kind of task labels are for, and how the manifest writes them."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import pytest

from pipeline.records.competition import Competition
from pipeline.records.labels import Kind, as_in_manifest, check_labels, find_kind, names_of
from pipeline.records.paths import Paths
from pipeline.records.task import read_task
from pipeline.system.errors import FoldwiseError
from tests.conftest import Failure, Stage, picture, write_image

SOURCE = {"images": "train", "labels": "train.csv"}


def facts(train: dict | None = None, **keys: object) -> Competition:
    return Competition.model_validate({"title": "t", "train": {**SOURCE, **(train or {})}, **keys})


def cells(*labels: str) -> pd.DataFrame:
    return pd.DataFrame({"label": labels})


PLANTS = ["healthy", "scab", "rust", "scab rust", "rust complex", "scab complex", "scab rust complex"]
SUBMITTED = {"submission": {"value": "class"}, "test": {"pattern": r"(?P<id>\d+)"}}


@pytest.mark.parametrize(
    ("labels", "keys", "sample", "expected"),
    [
        (["cat", "dog"], {}, None, "classification"),
        (PLANTS, {}, None, "multilabel"),
        (PLANTS, {"metric": "macro_f1"}, None, "multilabel"),
        ([label.replace(" ", "|") for label in PLANTS], {}, None, "multilabel"),
        ([label.replace(" ", "|").replace("rust", "red rust") for label in PLANTS], {}, None, "multilabel"),
        (PLANTS, {"metric": "accuracy"}, None, "classification"),  # accuracy is for one label
        (PLANTS, {"task": "classification"}, None, "classification"),
        (["golden retriever", "labrador retriever", "poodle"], {}, None, "classification"),
        (["red apple", "green apple", "red pear", "green pear"], {}, None, "classification"),
        (["Acer rubrum", "Acer mono", "Tilia cordata"], {}, None, "classification"),
        (["3", "1", "2"], {}, None, "classification"),
        (["3", "1", "2"], {"metric": "quadratic_kappa"}, None, "classification"),
        (["3", "1", "2"], {"metric": "rmse"}, None, "regression"),
        (["3", "1", "2"], {"task": "ordinal"}, None, "ordinal"),
        ([f"{value / 7:.3f}" for value in range(30)], {}, None, "regression"),
        (["0.5", "1.0", "1.5"], {}, None, "classification"),  # few values may be names
        ([str(value) for value in range(1, 101)], {}, ["65.03"], "regression"),
        (["0", "1"], {}, ["0.5"], "classification"),  # a probability
        (
            [str(value) for value in range(60)],
            SUBMITTED,
            ["65.03"],
            "classification",
        ),
    ],
)
def test_the_kind_is_found_only_where_nothing_speaks_against_it(
    labels: list[str], keys: dict, sample: list[str] | None, expected: str
) -> None:
    of_sample = None if sample is None else pd.DataFrame({"answer": sample})
    found = find_kind(cells(*labels), facts(**keys), of_sample)
    assert found.name == expected
    if expected != "classification" and "task" not in keys:
        assert found.reason  # what is not evident is said


def test_the_separator_is_the_one_that_leaves_the_fewest_names() -> None:
    labels = cells(*[label.replace(" ", "|").replace("rust", "red rust") for label in PLANTS])
    for competition in (facts(), facts(task="multilabel")):
        assert find_kind(labels, competition, None).separator == "|"
    assert find_kind(labels, facts(task="multilabel", train={"label_separator": " "}), None).separator == " "


@pytest.mark.parametrize(
    ("labels", "keys", "words"),
    [
        (["golden retriever", "labrador retriever"], {}, "set task = 'multilabel'"),
        ([str(value) for value in range(60)], {}, "set task = 'regression'"),
        (["0", "1", "2"], {"metric": "quadratic_kappa"}, "set task = 'ordinal'"),
    ],
)
def test_a_doubt_is_said(labels: list[str], keys: dict, words: str) -> None:
    assert words in find_kind(cells(*labels), facts(**keys), None).doubt


COLUMNS = {"train": {"label_columns": ["a b", "c"]}}


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([("1", "0"), ("0", "1")], "classification"),
        ([("1", "1"), ("0", "1")], "multilabel"),
        ([("0", "0"), ("0", "1")], "multilabel"),
        ([("1", "0.0"), ("0", "1.0")], "classification"),
        ([("1.5", "0"), ("0", "1")], "regression"),
    ],
)
def test_the_kind_of_several_columns(rows: list[tuple[str, str]], expected: str) -> None:
    table = pd.DataFrame(rows, columns=["a b", "c"])
    kind = find_kind(table, facts(**COLUMNS), None)
    assert kind.name == expected
    names = names_of(table, kind, facts(**COLUMNS))
    assert names == ["a b", "c"]
    labels = list(as_in_manifest(table, kind, names))
    if expected == "multilabel":
        assert kind.separator == ","  # a name has a space in it
        assert labels == [",".join(name for name, one in zip(names, row, strict=True) if one == "1") for row in rows]
    elif expected == "classification":
        assert labels == ["a b", "c"]
    else:
        assert labels == ["1.5 0", "0 1"]


def test_columns_that_are_neither_are_refused_with_row_and_value() -> None:
    table = pd.DataFrame({"a b": ["1", "x"], "c": ["0", "1"]})
    with pytest.raises(FoldwiseError, match="row 3 has 'x' in 'a b'"):
        find_kind(table, facts(**COLUMNS), None)
    one_each = pd.DataFrame({"a b": ["1", "0"], "c": ["0", "1"]})
    for task in ("multilabel", "regression", "classification"):
        assert find_kind(one_each, facts(task=task, **COLUMNS), None).name == task
    ones = pd.DataFrame({"a b": ["1", "1"], "c": ["0", "1"]})
    with pytest.raises(FoldwiseError, match="says task = 'classification'"):
        find_kind(ones, facts(task="classification", **COLUMNS), None)


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
    assert read_task(plain).target_names == ["score"]


def test_grades_without_an_order_are_refused(plain: Paths, stage: Stage, failure: Failure) -> None:
    csv_with(plain, "grade", lambda number: ("none", "mild", "severe")[number % 3])
    plain.toml.write_text('task = "ordinal"\n' + plain.toml.read_text())
    assert "set classes in competition.toml to the grades, from the lowest to the highest" in failure("manifest")
    plain.toml.write_text('classes = ["none", "mild", "severe"]\n' + plain.toml.read_text())
    stage("manifest")
    assert read_task(plain).target_names == ["none", "mild", "severe"]
