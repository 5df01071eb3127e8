"""Grades: their mean, cut points, and scores as classes and as numbers."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import cohen_kappa_score

from pipeline.tasks.ordinal import Ordinal

TASK = Ordinal(["0", "1", "2", "3"])


def test_grades_have_values() -> None:
    assert Ordinal(["1", "2.5", "4"]).grades.tolist() == [1, 2.5, 4]
    assert Ordinal(["none", "mild", "severe"]).grades.tolist() == [0, 1, 2]
    for names in (["2", "1", "0"], ["1", "01", "2"], ["1", "2", "nan"]):  # not ascending numbers: places
        assert Ordinal(names).grades.tolist() == [0, 1, 2]
    assert Ordinal(["1", "2.5", "4"]).default_rule(TASK.metric("accuracy")) == {"cut_points": [1.75, 3.25]}
    assert TASK.numbers(np.array([[0.5, 0, 0, 0.5]])).tolist() == [1.5]
    assert TASK.describe(np.array([0.5, 0, 0, 0.5]), {"cut_points": [0.5, 1.4, 2.5]}) == "2 (mean grade 1.50 of 0 to 3)"


def test_cut_points_come_close_to_the_best_of_all_combinations() -> None:
    rng = np.random.default_rng(0)
    labels = rng.choice(4, 300, p=[0.4, 0.3, 0.2, 0.1])
    means = labels * 0.5 + rng.normal(0, 0.4, 300) + 0.6
    probs = np.exp(-((np.arange(4) - means[:, None]) ** 2))
    probs /= probs.sum(axis=1, keepdims=True)
    targets, values = TASK.targets(pd.Series(labels.astype(str))), TASK.numbers(probs)
    metric = TASK.metric("quadratic_kappa")
    cuts = TASK.cut_points(metric, targets, probs)
    assert cuts == sorted(cuts)
    tried = np.quantile(values, np.linspace(0.05, 0.98, 22))
    best = max(
        cohen_kappa_score(labels, np.searchsorted(three, values, side="right"), weights="quadratic")
        for three in itertools.combinations(tried, 3)
    )
    assert TASK.score(metric, targets, probs, {"cut_points": cuts}) >= best - 0.005


def test_metrics_of_numbers_compare_mean_grades() -> None:
    targets = TASK.targets(pd.Series(["0", "3"]))
    probs = np.array([[0.5, 0.5, 0, 0], [0, 0, 0, 1.0]])
    assert TASK.score(TASK.metric("rmse"), targets, probs) == pytest.approx(np.sqrt(0.25 / 2))
    assert TASK.score(TASK.metric("accuracy"), targets, probs, {}) == 1
