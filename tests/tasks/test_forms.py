"""The cells of a submission, in every form, for every kind of task."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pipeline.records.competition import Submission
from pipeline.records.submission import format_submission, submission_text
from pipeline.system.errors import FoldwiseError
from pipeline.tasks.classification import Classification
from pipeline.tasks.multilabel import Multilabel
from pipeline.tasks.ordinal import Ordinal
from pipeline.tasks.regression import Regression
from pipeline.tasks.task import Rule, Task

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
        ({"value": "index", "first_index": 1}, "id,label\n1,1\n2,1\n10,2\n"),
        ({"value": "topk", "k": 2}, "id,label\n1,cat dog\n2,cat dog\n10,dog cat\n"),
        ({"value": "topk", "k": 2, "separator": "|"}, "id,label\n1,cat|dog\n2,cat|dog\n10,dog|cat\n"),
        ({"value": "topk", "k": 1}, "id,label\n1,cat\n2,cat\n10,dog\n"),
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


TAGS = Multilabel(["sea", "ship", "tanks"])
CHANCES = np.array([[0.9, 0.6, 0.1], [0.2, 0.3, 0.1], [0.4, 0.8, 0.7]])
HALF: Rule = {"thresholds": [0.5, 0.5, 0.5], "fill": False}
FILLED: Rule = {"thresholds": [0.5, 0.5, 0.9], "fill": True}
GRADES = Ordinal(["0", "1", "2"])
GRADE_PROBS = np.array([[0.5, 0.1, 0.4], [0.1, 0.2, 0.7], [0.6, 0.3, 0.1]])  # means 0.9, 1.6, 0.5
AGES = Regression(["age"])
SIZES = Regression(["width", "height"])


@pytest.mark.parametrize(
    ("task", "predictions", "form", "rule", "expected"),
    [
        (TAGS, CHANCES, {"value": "labels"}, HALF, "id,label\n1,ship tanks\n2,\n10,sea ship\n"),
        (TAGS, CHANCES, {"value": "labels"}, FILLED, "id,label\n1,ship\n2,ship\n10,sea ship\n"),
        (TAGS, CHANCES, {"value": "labels", "separator": "|"}, HALF, "id,label\n1,ship|tanks\n2,\n10,sea|ship\n"),
        (TAGS, CHANCES, {"value": "topk", "k": 2}, HALF, "id,label\n1,ship tanks\n2,ship sea\n10,sea ship\n"),
        (
            TAGS,
            CHANCES,
            {"value": "columns", "columns": ["id", "tanks", "sea", "ship"]},
            HALF,
            "id,tanks,sea,ship\n1,0.7,0.4,0.8\n2,0.1,0.2,0.3\n10,0.1,0.9,0.6\n",
        ),
        (TAGS, CHANCES, {"value": "binary"}, HALF, "id,sea,ship,tanks\n1,0,1,1\n2,0,0,0\n10,1,1,0\n"),
        (GRADES, GRADE_PROBS, {"value": "class"}, {}, "id,label\n1,0\n2,2\n10,0\n"),
        (GRADES, GRADE_PROBS, {"value": "class"}, {"cut_points": [0.8, 1.7]}, "id,label\n1,0\n2,1\n10,1\n"),
        (GRADES, GRADE_PROBS, {"value": "number"}, {}, "id,label\n1,0.5\n2,1.6\n10,0.9\n"),
        (GRADES, GRADE_PROBS, {"value": "rounded"}, {}, "id,label\n1,0\n2,2\n10,1\n"),
        (AGES, np.array([[30.25], [7.5], [61.0]]), {}, {}, "id,label\n1,61\n2,7.5\n10,30.25\n"),
        (AGES, np.array([[30.25], [7.6], [61.0]]), {"value": "rounded"}, {}, "id,label\n1,61\n2,8\n10,30\n"),
        (
            SIZES,
            np.array([[1.5, 2], [3, 4], [5, 6]]),
            {"value": "columns", "rows": "{id}_{column}", "columns": ["row_id", "target"]},
            {},
            "row_id,target\n1_width,5\n1_height,6\n2_width,3\n2_height,4\n10_width,1.5\n10_height,2\n",
        ),
    ],
)
def test_forms_of_other_kinds(task: Task, predictions: np.ndarray, form: dict, rule: Rule, expected: str) -> None:
    table = format_submission(IDS, predictions, task, Submission(**form), rule)
    assert submission_text(table, Submission(**form)) == expected


def test_the_header_of_the_sample_is_enough() -> None:
    sample = pd.DataFrame([["10", "0.5", "0.5"]], columns=["image", "dog", "cat"])
    table = format_submission(IDS, PROBS, TASK, Submission(sample="sample.csv"), sample=sample)
    assert list(table.columns) == ["image", "dog", "cat"] and table["dog"].tolist() == ["0.4999999", "0.1", "0.75"]
    two = sample[["image", "dog"]].set_axis(["Image", "Id"], axis=1)
    table = format_submission(IDS, PROBS, TASK, Submission(sample="sample.csv"), sample=two)
    assert list(table.columns) == ["Image", "Id"] and table["Id"].tolist() == ["cat", "cat", "dog"]


def test_the_separator_is_that_of_the_labels_and_never_part_of_a_name() -> None:
    task = Multilabel(["red tint", "sea"], "|")
    table = format_submission(IDS, np.ones((3, 2)), task, Submission(value="labels"))
    assert table["label"].tolist() == ["red tint|sea"] * 3
    with pytest.raises(FoldwiseError, match="'red tint' contains the separator ' ' of the submission"):
        format_submission(IDS, np.ones((3, 2)), task, Submission(value="labels", separator=" "))


@pytest.mark.parametrize(
    ("task", "form", "expected"),
    [
        (TASK, {"value": "labels"}, "value = 'labels' does not apply to task = 'classification'"),
        (TASK, {"value": "topk", "k": 3}, "k = 3, but there are only 2 classes"),
        (AGES, {"value": "class"}, "choose one of number, rounded, columns"),
        (SIZES, {"value": "number"}, "value = 'number' is for one number, but there are 2"),
        (TAGS, {"value": "columns", "columns": ["id", "sea", "ship", "tank"]}, "'tank' is none; did you mean 'tanks'"),
    ],
)
def test_forms_that_do_not_fit(task: Task, form: dict, expected: str) -> None:
    predictions = np.full((3, len(task.target_names)), 0.5)
    with pytest.raises(FoldwiseError, match=expected):
        format_submission(IDS, predictions, task, Submission(**form))
