"""The kinds of tasks: targets, loss, and the cells of the submission."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.utils.class_weight import compute_class_weight
from torch import nn

from pipeline.records.competition import Submission
from pipeline.records.submission import format_submission, submission_text
from pipeline.system.errors import FoldwiseError
from pipeline.tasks.classification import Classification
from tests.learner.networks import recipe


def test_balanced_weights_are_scikit_learns_and_smoothing_is_torchs() -> None:
    labels = np.array([0] * 6 + [1] * 3 + [2])
    choices = recipe(class_weights="balanced", label_smoothing=0.1)
    loss = Classification(["a", "b", "c"]).loss(np.eye(3, dtype=np.float32)[labels], choices.objective)
    assert isinstance(loss, nn.CrossEntropyLoss) and loss.weight is not None
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    np.testing.assert_allclose(loss.weight.numpy(), expected, rtol=1e-6)
    assert loss.label_smoothing == 0.1


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
