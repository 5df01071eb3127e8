"""The interval is a promise that holds, and averaging is worth what is said, for every kind of task."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.tasks import intervals
from pipeline.tasks.classification import Classification
from pipeline.tasks.intervals import averaging_gain, score_interval

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
    members = [probs, rng.dirichlet([1, 1, 1], 8000)]
    few = averaging_gain(TASK, metric, members, score)
    monkeypatch.setattr(intervals, "MAX_DRAWN_ROWS", 8000)
    assert few == pytest.approx(averaging_gain(TASK, metric, members, score), rel=0.12)


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


@pytest.mark.parametrize("name", ["log_loss", "accuracy", "roc_auc"])
@pytest.mark.parametrize("sharpness", [0.4, 1.0, 2.0])
def test_averaging_is_worth_what_labels_would_say(name: str, sharpness: float) -> None:
    """Five noisy members, timid to overconfident: the gain without labels against the gain with them."""
    rng = np.random.default_rng(2)
    logits = rng.normal(0, 1.5, 4000)
    labels = (rng.random(4000) < 1 / (1 + np.exp(-logits))).astype(int)
    members = []
    for _ in range(5):
        dog = 1 / (1 + np.exp(-(logits + rng.normal(0, 1, 4000)) * sharpness))
        members.append(np.stack([1 - dog, dog], axis=1))
    metric, average = TASK.metric(name), np.mean(members, axis=0)
    alone = float(np.mean([metric(labels, member) for member in members]))
    assert averaging_gain(TASK, metric, members, alone) == pytest.approx(metric(labels, average) - alone, rel=0.25)
    assert averaging_gain(TASK, metric, members[:1], alone) == 0
