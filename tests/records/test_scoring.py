"""Out-of-fold predictions are scored by what other folds have taught."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score

from pipeline.records.runs import RunTables
from pipeline.records.scoring import summarize, truth_and_values, units_of
from pipeline.tasks.classification import Classification


def test_the_pooled_score_is_that_of_scikit_learn_and_groups_are_units() -> None:
    rng = np.random.default_rng(0)
    task = Classification(["cat", "dog"])
    labels = rng.choice(task.target_names, 90)
    rows = pd.DataFrame({"image_id": np.arange(90).astype(str), "label": labels, "fold": np.arange(90) % 3})
    rows["group"] = np.where(np.arange(90) < 40, (np.arange(90) // 2).astype(str) + "g", "")
    predictions = rng.dirichlet([1, 1], 90)
    tables = RunTables(rows, rows, task, task.metric("accuracy"), {})
    assert len({*units_of(rows)}) == 20 + 50
    truth, values = truth_and_values(rows, tables, predictions)
    assert len(truth) == len(values) == 90
    score = summarize(rows, tables, predictions, [])
    expected = accuracy_score(labels, np.array(task.target_names)[predictions.argmax(axis=1)])
    assert score["cv_score"] == pytest.approx(expected) and len(score["fold_scores"]) == 3
    low, high = score["interval_95"]
    assert low < score["cv_score"] < high
