"""Learnt thresholds against an exhaustive search."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from pipeline.tasks.metrics import Metric, find_metric
from pipeline.tasks.thresholds import common_threshold, threshold_for_each


def metric_of(name: str) -> Metric:
    metric = find_metric(name, "tags")
    assert metric is not None
    return metric


def data(number: int, shares: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """Tags, and probabilities that are too high for rare tags and too low for frequent ones."""
    rng = np.random.default_rng(0)
    targets = (rng.random((number, len(shares))) < shares).astype(np.float32)
    logits = rng.normal(0, 1, targets.shape) + 2.5 * targets - np.linspace(3, 0, len(shares))
    return targets, 1 / (1 + np.exp(-logits))


def test_the_common_threshold_is_the_best_of_a_fine_grid() -> None:
    targets, predictions = data(400, [0.5, 0.2, 0.1])
    metric = metric_of("sample_f2")
    found = common_threshold(metric, targets, predictions)
    scores = [metric(targets, predictions >= value) for value in np.linspace(0.01, 0.99, 197)]
    assert metric(targets, predictions >= found) >= max(scores) - 0.002


@pytest.mark.parametrize("name", ["macro_f1", "micro_f2", "sample_f2"])
def test_thresholds_for_each_tag_come_close_to_the_best_of_all_combinations(name: str) -> None:
    targets, predictions = data(300, [0.5, 0.15])
    metric = metric_of(name)
    found = threshold_for_each(metric, targets, predictions)
    tried = np.linspace(0.02, 0.98, 60)
    best = max(metric(targets, predictions >= np.array(pair)) for pair in itertools.product(tried, tried))
    assert metric(targets, predictions >= found) >= best - 0.005
    common = common_threshold(metric, targets, predictions)
    assert metric(targets, predictions >= found) >= metric(targets, predictions >= common)
