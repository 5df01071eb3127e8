"""Out-of-fold predictions are scored by what other folds have taught."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score

from pipeline.records.runs import RunTables
from pipeline.records.scoring import of_one_network, summarize, truth_and_values, units_of
from pipeline.tasks import intervals
from pipeline.tasks.classification import Classification
from tests.benchmarks.promise import SKILLS, Outcome, outcome, set_bootstraps


def test_the_pooled_score_is_that_of_scikit_learn_and_groups_are_units() -> None:
    rng = np.random.default_rng(1)
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


def test_the_promise_holds_in_simulated_competitions(monkeypatch: pytest.MonkeyPatch) -> None:
    """The short form of tests/benchmarks/promise.py: other metrics, kinds of tasks and sizes in each draw."""
    monkeypatch.setattr(intervals, "draws_for", intervals.draws_for)  # restored afterwards
    set_bootstraps(60)
    drawn = [outcome(skill, 40, seed) for skill in SKILLS for seed in range(4)]
    found = [each for each in drawn if isinstance(each, Outcome)]
    assert len(found) > 22
    assert np.mean([each.held for each in found]) >= 0.82
    assert abs(np.mean([each.optimism for each in found])) <= 0.25


def test_one_network_varies_more_than_the_mean_of_several() -> None:
    """The folds score 0.6 to 0.9, so one network can too; folds that only differ by their rows change nothing."""
    task = Classification(["cat", "dog"])
    accuracy = task.metric("accuracy")
    low, high = of_one_network(accuracy, (0.72, 0.80), 0.76, [0.60, 0.89, 0.70, 0.85, 0.76], 4.0)
    assert low < 0.60 and high > 0.92
    assert of_one_network(accuracy, (0.72, 0.80), 0.76, [0.75, 0.77, 0.76], 4.0) == pytest.approx([0.72, 0.80])
