"""Which kind of task labels are for."""

from __future__ import annotations

import pandas as pd
import pytest

from pipeline.records.competition import Competition
from pipeline.records.label_kinds import find_kind
from pipeline.records.labels import as_in_manifest, names_of
from pipeline.system.errors import FoldwiseError

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
        (["rust", "scab", "healthy", "rust scab"], {}, None, "multilabel"),  # one combination is enough
        (["rust", "scab", "healthy", "rust+scab", "rust+healthy"], {}, None, "multilabel"),
        (["['a', 'c']", "['b', 'c']", "['c']", "['a']"], {}, None, "multilabel"),
        (["dark_red", "dark_blue", "light_red"], {}, None, "classification"),
        (["0", "1", "2"], {}, [], "classification"),  # a sample without a second column is refused elsewhere
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
    of_sample = None if sample is None else pd.DataFrame({"answer": sample} if sample else {})
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
        (["NA", *(f"{value / 7:.2f}" for value in range(20))], {}, "since 'NA' is not a number"),
        (["a_b", "b_c", "a_c", "a", "b", "c"], {}, "set task = 'multilabel'"),
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
        ([(" 1", "1 "), ("0", " 1")], "multilabel"),
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
        assert labels == [
            ",".join(name for name, one in zip(names, row, strict=True) if one.strip() == "1") for row in rows
        ]
    elif expected == "classification":
        assert labels == ["a b", "c"]
    else:
        assert labels == ["1.5 0", "0 1"]


def test_columns_that_are_neither_are_refused_with_the_value() -> None:
    table = pd.DataFrame({"a b": ["1", "x"], "c": ["0", "1"]})
    with pytest.raises(FoldwiseError, match="'a b' has 'x'"):
        find_kind(table, facts(**COLUMNS), None)
    one_each = pd.DataFrame({"a b": ["1", "0"], "c": ["0", "1"]})
    for task in ("multilabel", "regression", "classification"):
        assert find_kind(one_each, facts(task=task, **COLUMNS), None).name == task
    ones = pd.DataFrame({"a b": ["1", "1"], "c": ["0", "1"]})
    with pytest.raises(FoldwiseError, match="says task = 'classification'"):
        find_kind(ones, facts(task="classification", **COLUMNS), None)


def test_a_separator_without_several_labels_is_refused() -> None:
    with pytest.raises(FoldwiseError, match="label_separator has an effect only with several labels"):
        find_kind(cells("a", "b"), facts(task="classification", train={"label_separator": ","}), None)


def test_one_1_in_each_row_can_be_several_labels_by_the_metric() -> None:
    one_each = pd.DataFrame({"a b": ["1", "0"], "c": ["0", "1"]})
    assert find_kind(one_each, facts(metric="sample_f1", **COLUMNS), None).name == "multilabel"
