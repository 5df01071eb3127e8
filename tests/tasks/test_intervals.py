"""The interval is a promise that holds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from pipeline.tasks import intervals
from pipeline.tasks.classification import Classification
from pipeline.tasks.intervals import effect_of_size, promised, score_interval
from pipeline.tasks.multilabel import Multilabel

TASK = Classification(["cat", "dog"])


def test_the_interval_holds_the_score_of_unseen_rows_about_95_times_in_100(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw a scored sample and an unseen one from the same source, many times over."""
    monkeypatch.setattr(intervals, "draws_for", lambda _: 100)
    rng = np.random.default_rng(1)
    held = 0
    for trial in range(100):
        confidence = rng.uniform(0.5, 1, 550)
        labels = (rng.random(550) > confidence).astype(int)
        probs = np.stack([confidence, 1 - confidence], axis=1)
        low, high = score_interval(TASK.metric("accuracy"), labels[:400], probs[:400], np.arange(400), 150, seed=trial)
        held += low <= TASK.metric("accuracy")(labels[400:], probs[400:]) <= high
    assert 0.90 <= held / 100 <= 0.99


@pytest.mark.parametrize("name", ["log_loss", "accuracy"])
def test_the_interval_of_many_rows_is_found_by_smaller_samples(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "draws_for", lambda _: 300)
    rng = np.random.default_rng(4)
    probs = rng.dirichlet([1, 1, 1], 8000)
    labels = (rng.random((8000, 1)) > probs.cumsum(axis=1)[:, :-1]).sum(axis=1)
    metric, score = TASK.metric(name), TASK.metric(name)(labels, probs)
    whole = score_interval(metric, labels, probs, np.arange(8000), 3000)
    monkeypatch.setattr(intervals, "MAX_DRAWN_ROWS", 1000)
    smaller = score_interval(metric, labels, probs, np.arange(8000), 3000)
    assert np.subtract(smaller, score) == pytest.approx(np.subtract(whole, score), rel=0.25)


def test_rows_of_one_group_are_no_news() -> None:
    """Forty patients of ten like images each promise what forty images would, not what four hundred would."""
    rng = np.random.default_rng(3)
    right = rng.random(40) < 0.8
    labels = np.repeat(right.astype(int), 10)
    probs = np.tile([0.1, 0.9], (400, 1))
    metric = TASK.metric("accuracy")
    low, high = score_interval(metric, labels, probs, np.repeat(np.arange(40), 10), 400)
    alone = score_interval(metric, labels[::10], probs[::10], np.arange(40), 40)
    naive = score_interval(metric, labels, probs, np.arange(400), 400)
    assert (low, high) == pytest.approx(alone, abs=0.05)
    assert high - low > 2 * (naive[1] - naive[0])


def test_sixty_right_of_sixty_do_not_promise_a_perfect_score() -> None:
    labels = np.arange(60) % 3
    metric = TASK.metric("accuracy")
    low, high = score_interval(metric, labels, np.eye(3)[labels], np.arange(60), 60)
    exact = binomtest(60, 60).proportion_ci(0.95, "exact").low  # of the rate; that of 60 unseen rows varies more
    assert 0.85 < low <= exact + 0.01 and high == 1
    low, high = score_interval(metric, labels, np.eye(3)[(labels + 1) % 3], np.arange(60), 60)
    assert low == 0 and 1 - exact - 0.01 <= high < 0.15


def test_few_groups_promise_less_than_as_many_rows_of_many_groups() -> None:
    rng = np.random.default_rng(5)
    probs = rng.dirichlet([2, 1], 300)
    labels = (rng.random(300) < 0.5).astype(int)
    metric = TASK.metric("log_loss")
    widths = [np.ptp(score_interval(metric, labels, probs, np.arange(300) % groups, 300)) for groups in (2, 3, 300)]
    assert widths[0] > widths[1] > 3 * widths[2]
    assert score_interval(TASK.metric("accuracy"), labels, probs, np.zeros(300, int), 300) == (0, 1)


def test_a_biased_score_is_corrected_for_the_number_of_rows_and_a_mean_is_not() -> None:
    """The mean average precision of tags by chance is too high with few rows."""
    task, rng = Multilabel(["a", "b"]), np.random.default_rng(6)
    metric, shifts, few, many = task.metric("mean_average_precision"), [], [], []
    for trial in range(60):
        truth, values = (rng.random((2000, 2)) < 0.2).astype(np.float32), rng.random((2000, 2))
        few.append(metric(truth[:40], values[:40]))
        many.append(metric(truth, values))
        shifts.append(effect_of_size(metric, truth[:40], values[:40], np.arange(40), 2000, trial))
    assert np.mean(shifts) == pytest.approx(np.mean(many) - np.mean(few), abs=0.03) and np.mean(shifts) < -0.04
    probs = rng.dirichlet([1, 1], 40)
    assert effect_of_size(TASK.metric("log_loss"), np.arange(40) % 2, probs, np.arange(40), 10) == pytest.approx(0)


def test_a_bound_of_the_metric_stays() -> None:
    accuracy = TASK.metric("accuracy")
    assert promised(accuracy, (0.4, 0.6), 0.02, 0) == pytest.approx([0.41, 0.63])
    assert promised(accuracy, (0.0, 1.0), -0.02, 0.1) == [0.0, 1.0]
