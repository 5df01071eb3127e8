"""Steps after training help where they should, and are left out elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from pipeline.tasks.averaging import likely_labels
from pipeline.tasks.classification import Classification
from pipeline.tasks.multilabel import Multilabel
from pipeline.tasks.ordinal import Ordinal
from pipeline.tasks.postprocessing import apply_step, apply_steps, learn_steps, steps_for, steps_of_mean

TASK = Classification(["a", "b", "c"])
ROWS = np.arange(1500)


def drawn(sharpness: float, seed: int, noise: float = 1.0, shares: tuple[float, ...] = (1, 1, 1)) -> tuple:
    """Targets (N, 3) and predictions (N, 3) whose log-odds are ``sharpness`` times the right ones."""
    rng = np.random.default_rng(seed)
    signal = rng.normal(0, 1.5, (len(ROWS), 3)) + np.log(shares)
    labels = (signal + rng.gumbel(size=signal.shape)).argmax(axis=1)
    return np.eye(3, dtype=np.float32)[labels], TASK.chances(
        sharpness * (signal + noise * rng.normal(size=signal.shape))
    )


def test_the_temperature_is_that_of_maximum_likelihood() -> None:
    targets, predictions = drawn(3.0, 0)
    metric = TASK.metric("log_loss")
    (step,) = [
        one for one in learn_steps(TASK, metric, targets, predictions, ROWS % 5, ROWS) if one["step"] == "temperature"
    ]

    def loss(log_value: float) -> float:
        logits = np.log(predictions) / np.exp(log_value)
        logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        return -float((targets * logs).sum(axis=1).mean())

    best = np.exp(minimize_scalar(loss, bounds=(-2, 2), method="bounded").x)
    assert step["value"] == pytest.approx(best, rel=0.06) and step["value"] > 2
    assert step["gain"] == pytest.approx(loss(np.log(best)) - loss(0), rel=0.1) and step["gain"] < -0.1


def test_calibrated_predictions_are_left_as_they_are() -> None:
    targets, predictions = drawn(1.0, 1, noise=0.0)
    assert learn_steps(TASK, TASK.metric("log_loss"), targets, predictions, ROWS % 5, ROWS) == []
    assert learn_steps(TASK, TASK.metric("accuracy"), targets, predictions, ROWS % 5, ROWS) == []


def test_rare_classes_are_raised_for_a_metric_that_weighs_them_equally() -> None:
    """By a full shift, predictions with the right prior become those of equally frequent classes."""
    targets, predictions = drawn(1.0, 2, noise=0.0, shares=(20, 5, 1))
    metric = TASK.metric("balanced_accuracy")
    (step,) = learn_steps(TASK, metric, targets, predictions, ROWS % 5, ROWS)
    assert step["step"] == "prior shift" and step["value"] == pytest.approx(1, abs=0.5)
    truth = targets.argmax(axis=1)
    assert metric(truth, apply_steps(TASK, predictions, [step])) > metric(truth, predictions) + 0.05


def test_a_clip_limits_what_a_confident_error_costs() -> None:
    targets = np.eye(3, dtype=np.float32)[ROWS % 3]
    predictions = np.where(targets > 0, 1 - 2e-9, 1e-9)
    wrong = np.arange(0, len(ROWS), 49)
    predictions[wrong] = np.roll(predictions[wrong], 1, axis=1)
    steps = learn_steps(TASK, TASK.metric("log_loss"), targets, predictions, ROWS % 5, ROWS)
    after = apply_steps(TASK, predictions, steps)
    assert TASK.metric("log_loss")(ROWS % 3, after) < 0.5 * TASK.metric("log_loss")(ROWS % 3, predictions)
    assert after.sum(axis=1) == pytest.approx(np.ones(len(ROWS)))


def test_a_step_is_for_metrics_that_gain_by_it() -> None:
    assert steps_for(TASK, TASK.metric("roc_auc")) == () == steps_for(TASK, TASK.metric("map@3"))
    tags, grades = Multilabel(["x", "y"]), Ordinal(["0", "1", "2"])
    assert steps_for(tags, tags.metric("log_loss")) == ("temperature", "clip")
    assert steps_for(tags, tags.metric("sample_f2")) == () == steps_for(grades, grades.metric("quadratic_kappa"))
    ranks = np.array([[0.2, 0.7, 0.1], [0.5, 0.2, 0.3]])
    mild = apply_step(TASK, ranks, {"step": "temperature", "value": 2.0})
    assert (mild.argsort(axis=1) == ranks.argsort(axis=1)).all() and mild.max() < ranks.max()


@pytest.mark.parametrize("sharpness", [0.7, 1.5])
def test_the_mean_gets_the_temperature_that_labels_would_give_it(sharpness: float) -> None:
    """Five noisy models: the temperature of one of them is not that of their mean."""
    rng, metric = np.random.default_rng(3), TASK.metric("log_loss")
    signal = rng.normal(0, 2, (4000, 3))
    labels = (signal + rng.gumbel(size=signal.shape)).argmax(axis=1)
    models = [TASK.chances(sharpness * (signal + rng.normal(0, 1.5, signal.shape))) for _ in range(5)]
    oof = np.stack(models)[np.arange(2000) % 5, np.arange(2000)]
    targets, members = np.eye(3)[labels[:2000]], [model[2000:] for model in models]
    steps = learn_steps(TASK, metric, targets, oof, np.arange(2000) % 5, np.arange(2000))
    mean, truth = np.mean(members, axis=0), labels[2000:]
    changed = steps_of_mean(TASK, metric, steps, likely_labels(TASK, members, targets, oof), mean)
    tried = [apply_step(TASK, mean, {"step": "temperature", "value": value}) for value in np.geomspace(0.2, 4, 60)]
    best = min(metric(truth, each) for each in tried)
    found = metric(truth, apply_steps(TASK, mean, changed))
    assert found < best + 0.01
    assert found < metric(truth, apply_steps(TASK, mean, steps)) - 0.02
