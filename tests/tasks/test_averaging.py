"""Averaging is worth what is said, for every kind of task."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.tasks import averaging
from pipeline.tasks.averaging import averaging_gain, fit_line, likely_labels, line_of_mean
from pipeline.tasks.classification import Classification
from pipeline.tasks.metrics import Metric
from pipeline.tasks.regression import Regression
from pipeline.tasks.task import Task

TASK = Classification(["cat", "dog"])


def gain_of(task: Task, metric: Metric, members: list[np.ndarray], targets: np.ndarray, oof: np.ndarray) -> float:
    """What averaging the members is worth, without changing or deciding anything."""
    likely = likely_labels(task, members, targets, oof)
    return averaging_gain(task, metric, likely, members, np.mean(members, axis=0), task.score(metric, targets, oof))


def noisy(rng: np.random.Generator, sharpness: float, number: int = 5) -> tuple[np.ndarray, list[np.ndarray]]:
    """Labels (N,) and the predictions of noisy models."""
    logits = rng.normal(0, 1.5, 4000)
    labels = (rng.random(4000) < 1 / (1 + np.exp(-logits))).astype(int)
    members = []
    for _ in range(number):
        dog = 1 / (1 + np.exp(-(logits + rng.normal(0, 1, 4000)) * sharpness))
        members.append(np.stack([1 - dog, dog], axis=1))
    return labels, members


@pytest.mark.parametrize("name", ["log_loss", "accuracy", "roc_auc"])
@pytest.mark.parametrize("sharpness", [0.4, 1.0, 2.0])
def test_averaging_is_worth_what_labels_would_say(name: str, sharpness: float) -> None:
    """Five noisy models, timid to overconfident: the gain without test labels against the gain with them."""
    labels, members = noisy(np.random.default_rng(2), sharpness)
    metric = TASK.metric(name)
    seen, unseen = slice(0, 2000), slice(2000, None)
    oof = np.stack(members)[np.arange(2000) % 5, np.arange(2000)]
    test = [member[unseen] for member in members]
    real = metric(labels[unseen], np.mean(test, axis=0)) - np.mean([metric(labels[unseen], each) for each in test])
    targets = np.eye(2)[labels[seen]]
    assert gain_of(TASK, metric, test, targets, oof) == pytest.approx(real, rel=0.3, abs=0.004)
    assert gain_of(TASK, metric, test[:1], targets, oof) == 0


@pytest.mark.parametrize("rows", [60, 2000])
def test_collapsed_models_gain_no_accuracy(rows: int) -> None:
    """Each model always predicts one class, another one than the others, so that all they do is disagree."""
    task, rng = Classification(["a", "b", "c"]), np.random.default_rng(0)
    labels = np.arange(rows) % 3
    members = [np.tile(np.where(np.arange(3) == name, 0.8, 0.1), (rows, 1)) for name in range(3)]
    members = [each + rng.uniform(0, 1e-3, each.shape) for each in members]
    oof = np.stack(members)[rng.integers(3, size=rows), np.arange(rows)]
    gain = gain_of(task, task.metric("accuracy"), members, np.eye(3)[labels], oof)
    assert gain == pytest.approx(0, abs=0.02)


def test_the_gain_of_squared_errors_is_the_variance_between_the_models() -> None:
    """Krogh & Vedelsby, 1995: exact, whatever the labels are."""
    rng, task = np.random.default_rng(3), Regression(["weight"])
    truth = rng.normal(50, 10, (3000, 1))
    members = [truth + rng.normal(0, 6, (3000, 1)) for _ in range(4)]
    oof = np.stack(members)[np.arange(3000) % 4, np.arange(3000)]
    metric = task.metric("rmse")
    real = metric(truth, np.mean(members, axis=0)) - np.mean([metric(truth, each) for each in members])
    assert gain_of(task, metric, members, truth, oof) == pytest.approx(real, rel=0.1) and real < -2


def test_the_slope_of_the_mean_is_corrected_for_attenuation() -> None:
    """The regression of labels on the mean of models, from that on single ones."""
    rng, task = np.random.default_rng(4), Regression(["weight"])
    signal = rng.normal(0, 10, (20_000, 1))
    truth = signal + rng.normal(0, 3, signal.shape)
    members = np.stack([signal + rng.normal(0, 8, signal.shape) for _ in range(5)])
    of_mean = line_of_mean(fit_line(task, truth, members[0]), members)
    direct = fit_line(task, truth, members.mean(axis=0))
    assert of_mean.slope == pytest.approx(direct.slope, rel=0.03)
    assert of_mean.spread == pytest.approx(direct.spread, rel=0.05)


def test_many_rows_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    labels, members = noisy(np.random.default_rng(5), 1.0)
    metric, targets = TASK.metric("log_loss"), np.eye(2)[labels]
    whole = gain_of(TASK, metric, members, targets, members[0])
    monkeypatch.setattr(averaging, "MAX_ROWS", 1000)
    assert gain_of(TASK, metric, members, targets, members[0]) == pytest.approx(whole, rel=0.15)
