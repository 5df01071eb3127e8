"""The file to upload: every form, every check, ids byte for byte."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.records.competition import Submission
from pipeline.records.paths import Paths
from pipeline.records.submission import check_sample, format_submission, submission_text
from pipeline.records.tables import sorted_ids
from pipeline.records.task import Classification
from pipeline.submit import keep_older
from pipeline.system.errors import FoldwiseError

IDS = pd.Series(["10", "2", "1"])
PROBS = np.array([[0.25, 0.75], [0.9, 0.1], [0.5000001, 0.4999999]])
TASK = Classification(["cat", "dog"])


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ({"value": "probability", "positive": "dog"}, "id,label\n1,0.4999999\n2,0.1\n10,0.75\n"),
        ({"value": "class"}, "id,label\n1,cat\n2,cat\n10,dog\n"),
        ({"value": "index", "columns": ["ID", "Class"]}, "ID,Class\n1,0\n2,0\n10,1\n"),
        ({"value": "index", "header": False}, "1,0\n2,0\n10,1\n"),
        (
            {"value": "columns", "columns": ["id", "dog", "cat"]},
            "id,dog,cat\n1,0.4999999,0.5000001\n2,0.1,0.9\n10,0.75,0.25\n",
        ),
    ],
)
def test_every_form(form: dict, expected: str) -> None:
    table = format_submission(IDS, PROBS, TASK, Submission(**form))
    assert submission_text(table, Submission(**form)) == expected


def test_a_form_that_names_an_unknown_class() -> None:
    with pytest.raises(FoldwiseError, match="'cow' is not one of the classes cat, dog"):
        format_submission(IDS, PROBS, TASK, Submission(value="probability", positive="cow"))
    with pytest.raises(FoldwiseError, match="the id and every class"):
        format_submission(IDS, PROBS, TASK, Submission(value="columns", columns=["id", "cat"]))


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
    assert "say header = true or false" in failure("manifest")
    split.toml.write_text(text.replace('ids = "bare.csv"', 'ids = "bare.csv"\nheader = false'))
    stage("manifest")
    manifest = pd.read_csv(split.manifest, dtype=str)
    assert list(manifest.query("split == 'test'")["image_id"]) == [str(number) for number in range(1, 12)]


def test_ids_sort_as_people_expect() -> None:
    assert sorted_ids(["10", "9", "1"]) == ["1", "9", "10"]
    assert sorted_ids(["010", "9", "10"]) == ["9", "010", "10"]
    assert sorted_ids(["1e5", "00ff", "10"]) == ["00ff", "10", "1e5"]


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


def test_an_older_different_submission_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    path.write_text("old")
    path.with_suffix(".json").write_text("{}")
    keep_older(path, "old")
    assert path.exists()
    keep_older(path, "new")
    kept = sorted(file.name for file in tmp_path.iterdir())
    assert not path.exists() and len(kept) == 2 and all(len(name.split(".")[1]) == 8 for name in kept)


def test_the_test_images_must_be_those_of_the_sample(shapes: Paths, failure: Callable[..., str]) -> None:
    sample = shapes.raw / "sample_submission.csv"
    sample.write_text(sample.read_text().replace("\n7,", "\n70,"))
    message = failure("manifest")  # before hours of training, not after
    assert "such as '70'" in message and "such as '7'" in message
