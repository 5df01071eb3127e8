"""The submission: every form, every check, ids byte for byte."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.records.competition import Submission, load_competition
from pipeline.records.paths import Paths
from pipeline.records.submission import (
    check_sample,
    check_submission,
    format_submission,
    submission_text,
)
from pipeline.system.errors import FoldwiseError
from pipeline.tasks.classification import Classification
from tests.conftest import Stage
from tests.mutations import outcomes

STRANGE_IDS = [
    "007",
    "NA",
    "null",
    "1e5",
    "größe",
    "日本",
    "a,b",
    'say "x"',
    "two\nlines",
    " space ",
    "0x1F",
    "TRUE",
    "-0",
]


def test_strange_ids_are_kept_byte_for_byte(shapes: Paths, stage: Stage, root: Path) -> None:
    """From a sample submission of a hidden test set through every stage to the CSV."""
    sample = pd.DataFrame({"id": STRANGE_IDS, "label": "circle"})
    sample.to_csv(shapes.raw / "sample_submission.csv", index=False, lineterminator="\n")
    toml = shapes.toml.read_text().replace(
        r"pattern = '^(?P<id>\d+)\.png$'", 'ids = "sample_submission.csv"\nmax_missing = 1'
    )
    shapes.toml.write_text(toml.replace('value   = "class"', 'value = "class"\norder = "sample"'))
    for name, *options in (["prepare"], ["manifest"], ["folds"], ["train", "--fold", "0"]):
        stage(name, *options)
    for name in ("predict", "ensemble", "submit"):
        stage(name, "--folds", "0")
    written = (root / "submissions" / "shapes" / "tiny~folds=0.csv").read_bytes()
    column = [line.rpartition(b",")[0] for line in (shapes.raw / "sample_submission.csv").read_bytes().splitlines()]
    assert [line.rpartition(b",")[0] for line in written.splitlines()] == column


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda rows: rows[:-1], r"1 id too many \(such as '3'\)"),
        (lambda rows: [*rows, "9,a"], r"1 id missing \(such as '9'\)"),
        (lambda rows: [*rows, "1,a"], "the id '1' more than once"),
    ],
)
def test_ids_missing_extra_or_twice(tmp_path: Path, change: Callable[[list[str]], list[str]], expected: str) -> None:
    form = Submission(value="class")
    table = format_submission(pd.Series(["1", "2", "3"]), np.eye(3, 2, dtype=float), Classification(["a", "b"]), form)
    sample = tmp_path / "sample.csv"
    sample.write_text("\n".join(["id,label", *change(["1,a", "2,a", "3,a"])]) + "\n")
    with pytest.raises(FoldwiseError, match=expected):
        check_sample(table, sample, form)


SHAPES = Classification(["circle", "square"])


CELLS = ["", "NaN", "-1", "1e999", "9" * 30, "0.5", "inf", "größe", '"', "'", "a,b", "\0", "x" * 5000, "null", "[", "="]


def test_a_damaged_sample_submission(split: Paths) -> None:
    competition = load_competition(split)
    ids = pd.Series([str(number) for number in range(1, 12)])
    found = outcomes(
        split.raw / "sample_submission.csv",
        lambda: check_submission(ids, SHAPES, competition, split),
    )
    assert min(found.values()) > 30


IDS = pd.Series(["10", "2", "1"])


PROBS = np.array([[0.25, 0.75], [0.9, 0.1], [0.5000001, 0.4999999]])


TASK = Classification(["cat", "dog"])


def test_a_sample_without_a_header(tmp_path: Path) -> None:
    form = Submission(value="index", header=False, order="sample", sample="sample.csv")
    table = format_submission(IDS, PROBS, TASK, form)
    sample = tmp_path / "sample.csv"
    sample.write_text("10,0\n1,0\n2,0\n")
    assert submission_text(check_sample(table, sample, form), form) == "10,1\n1,0\n2,0\n"
    sample.write_text("id,label\n10,0\n1,0\n2,0\n")
    with pytest.raises(FoldwiseError, match="'id'"):
        check_sample(table, sample, form)


def test_ids_from_a_sample_without_a_header_must_say_so(
    split: Paths, stage: Callable[..., None], failure: Callable[..., str]
) -> None:
    """Else its first row would be lost as the names of the columns."""
    rows = "".join(f"{number},0\n" for number in range(1, 12))
    (split.raw / "bare.csv").write_text(rows)
    text = split.toml.read_text().replace("pattern = '^(?P<id>\\d+)\\.png$'", 'ids = "bare.csv"')
    form = 'columns = ["id", "label"]\nheader = false\n'
    text = text.replace('columns = ["id", "label"]\n', form).replace('sample  = "sample_submission.csv"\n', "")
    split.toml.write_text(text)
    assert "[test] needs header = true or false" in failure("manifest")
    split.toml.write_text(text.replace('ids = "bare.csv"', 'ids = "bare.csv"\nheader = false'))
    stage("manifest")
    manifest = pd.read_csv(split.manifest, dtype=str)
    assert list(manifest.query("split == 'test'")["image_id"]) == [str(number) for number in range(1, 12)]


def test_ids_are_kept_byte_for_byte(tmp_path: Path) -> None:
    ids = ["007", "NA", "null", "1e5", "größe", 'quo"te', "com,ma", " space", "0x1F", "TRUE"]
    table = format_submission(pd.Series(ids), np.tile([0.4, 0.6], (10, 1)), TASK, Submission(value="class"))
    sample = tmp_path / "sample.csv"
    table.to_csv(sample, index=False)
    form = Submission(value="class", order="sample", sample="sample.csv")
    assert sorted(check_sample(table, sample, form)["id"]) == sorted(ids)


def test_the_samples_order_wins_where_asked(tmp_path: Path) -> None:
    sample = tmp_path / "sample.csv"
    sample.write_text("id,label\n2,0\n10,0\n1,0\n")
    table = format_submission(IDS, PROBS, TASK, Submission(value="class"))
    assert list(check_sample(table, sample, Submission(order="sample", sample="s"))["id"]) == ["2", "10", "1"]
    assert list(check_sample(table, sample, Submission(sample="s"))["id"]) == ["1", "2", "10"]


@pytest.mark.parametrize(
    ("sample", "expected"),
    [
        ("id,label\n1,0\n2,0\n", "1 id too many \\(such as '10'\\)"),
        ("id,label\n1,0\n2,0\n10,0\n11,0\n", "1 id missing \\(such as '11'\\)"),
        ("id,label\n1,0\n2,0\n010,0\n", "1 id missing \\(such as '010'\\) and 1 id too many"),
        ("Id,label\n1,0\n2,0\n10,0\n", "has the columns Id,label"),
        ("id,id\n1,0\n", "the column 'id' twice"),
    ],
)
def test_a_sample_that_does_not_fit(tmp_path: Path, sample: str, expected: str) -> None:
    path = tmp_path / "sample.csv"
    path.write_text(sample)
    with pytest.raises(FoldwiseError, match=expected):
        check_sample(format_submission(IDS, PROBS, TASK, Submission()), path, Submission())


def test_a_form_that_cannot_work_is_said_before_training(
    shapes: Paths, failure: Callable[..., str], edit: Callable[[str, str], None]
) -> None:
    edit('value   = "class"', 'value = "probability"\npositive = "sqare"')
    assert "'sqare' is not one of the classes circle, square" in failure("manifest")


def test_the_test_images_must_be_those_of_the_sample(shapes: Paths, failure: Callable[..., str]) -> None:
    sample = shapes.raw / "sample_submission.csv"
    sample.write_text(sample.read_text().replace("\n7,", "\n70,"))
    message = failure("manifest")  # before hours of training, not after
    assert "such as '70'" in message and "such as '7'" in message
