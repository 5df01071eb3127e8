"""What all kinds of tasks share."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pipeline.system.errors import FoldwiseError
from pipeline.tasks.classification import Classification
from pipeline.tasks.multilabel import Multilabel
from pipeline.tasks.regression import Regression


def test_a_metric_of_another_kind_is_refused_with_those_that_apply() -> None:
    with pytest.raises(FoldwiseError, match="metric = 'rmse' does not apply to task = 'classification'; choose one of"):
        Classification(["a", "b"]).metric("rmse")
    with pytest.raises(FoldwiseError, match=r"rmse, mae, rmsle, r2, spearman$"):
        Regression(["x"]).metric("sample_f2")


def test_decisions_are_scored_by_the_default_rule_unless_another_is_given() -> None:
    task = Multilabel(["a", "b"])
    targets, predictions = task.targets(pd.Series(["a", "b"])), np.array([[0.4, 0.1], [0.1, 0.4]])
    metric = task.metric("micro_f1")
    assert task.score(metric, targets, predictions) == 0
    assert task.score(metric, targets, predictions, {"thresholds": [0.3, 0.3], "fill": False}) == 1


def test_tables_name_their_columns() -> None:
    assert list(Classification(["cat", "dog"]).table(np.zeros((1, 2)))) == ["p_cat", "p_dog"]
    assert list(Regression(["age"]).table(np.zeros((1, 1)))) == ["p_age"]
