"""Metrics are scikit-learn's; the interval is a promise that holds."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import sklearn.metrics as reference
from pipeline.records.metrics import METRICS, averaging_gain, score_interval

from pipeline.records import metrics

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 3, 200)
PROBS = RNG.dirichlet([1, 1, 1], 200) * 0.5 + np.eye(3)[LABELS] * 0.5


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("accuracy", reference.accuracy_score(LABELS, PROBS.argmax(1))),
        ("balanced_accuracy", reference.balanced_accuracy_score(LABELS, PROBS.argmax(1))),
        ("macro_f1", reference.f1_score(LABELS, PROBS.argmax(1), average="macro")),
        ("matthews", reference.matthews_corrcoef(LABELS, PROBS.argmax(1))),
        ("quadratic_kappa", reference.cohen_kappa_score(LABELS, PROBS.argmax(1), weights="quadratic")),
        ("log_loss", -np.log(PROBS[np.arange(200), LABELS]).mean()),
        ("roc_auc", reference.roc_auc_score(LABELS, PROBS, multi_class="ovr")),
    ],
)
def test_values(name: str, expected: float) -> None:
    assert METRICS[name](LABELS, PROBS) == pytest.approx(expected)


def test_directions() -> None:
    for name, metric in METRICS.items():
        right, wrong = np.eye(3)[LABELS] * 0.97 + 0.01, np.eye(3)[(LABELS + 1) % 3] * 0.97 + 0.01
        better = metric(LABELS, right) > metric(LABELS, wrong)
        assert better == metric.greater_is_better, name


def test_a_fold_that_lacks_a_class() -> None:
    some = LABELS != 2
    assert np.isfinite(METRICS["log_loss"](LABELS[some], PROBS[some]))
    assert np.isnan(METRICS["roc_auc"](LABELS[LABELS == 0], PROBS[LABELS == 0]))


def test_the_interval_holds_the_score_of_unseen_rows_about_95_times_in_100(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw a scored sample and an unseen one from the same source, many times over."""
    monkeypatch.setattr(metrics, "draws_for", lambda _: 100)
    rng = np.random.default_rng(1)
    held = 0
    for trial in range(100):
        confidence = rng.uniform(0.5, 1, 550)
        labels = (rng.random(550) > confidence).astype(int)
        probs = np.stack([confidence, 1 - confidence], axis=1)
        low, high = score_interval(METRICS["accuracy"], labels[:400], probs[:400], np.arange(400), 150, seed=trial)
        held += low <= METRICS["accuracy"](labels[400:], probs[400:]) <= high
    assert 0.90 <= held / 100 <= 0.99


@pytest.mark.parametrize("name", ["log_loss", "accuracy"])
def test_the_interval_of_many_rows_is_found_by_smaller_samples(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "draws_for", lambda _: 300)
    rng = np.random.default_rng(4)
    probs = rng.dirichlet([1, 1, 1], 8000)
    labels = (rng.random((8000, 1)) > probs.cumsum(axis=1)[:, :-1]).sum(axis=1)
    metric, score = METRICS[name], METRICS[name](labels, probs)
    whole = score_interval(metric, labels, probs, np.arange(8000), 3000)
    monkeypatch.setattr(metrics, "MAX_DRAWN_ROWS", 1000)
    smaller = score_interval(metric, labels, probs, np.arange(8000), 3000)
    assert np.subtract(smaller, score) == pytest.approx(np.subtract(whole, score), rel=0.25)
    members = [probs, rng.dirichlet([1, 1, 1], 8000)]
    few = averaging_gain(metric, members, score)
    monkeypatch.setattr(metrics, "MAX_DRAWN_ROWS", 8000)
    assert few == pytest.approx(averaging_gain(metric, members, score), rel=0.12)


def test_rows_of_one_group_are_no_news() -> None:
    """Forty patients of ten like images each promise what forty images would, not what four hundred would."""
    rng = np.random.default_rng(3)
    right = rng.random(40) < 0.8
    labels = np.repeat(right.astype(int), 10)
    probs = np.tile([0.1, 0.9], (400, 1))
    metric = METRICS["accuracy"]
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
    metric, average = METRICS[name], np.mean(members, axis=0)
    alone = float(np.mean([metric(labels, member) for member in members]))
    assert averaging_gain(metric, members, alone) == pytest.approx(metric(labels, average) - alone, rel=0.25)
    assert averaging_gain(metric, members[:1], alone) == 0


def test_log_loss_and_accuracy_are_scikit_learns_to_the_last_bit() -> None:
    """They are computed here, so that a fold does not import scikit-learn when it starts."""
    rng = np.random.default_rng(0)
    for turn in range(60):
        shape, dtype = (int(rng.integers(1, 3000)), int(rng.integers(2, 12))), (np.float32, np.float64)[turn % 2]
        logits = rng.normal(size=shape) * (0.3, 3, 30)[turn % 3]
        probs = np.exp(logits - logits.max(axis=1, keepdims=True))
        probs = (probs / probs.sum(axis=1, keepdims=True)).astype(dtype)
        labels = rng.integers(shape[1], size=shape[0])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # float32 probabilities do not quite sum to one
            expected = reference.log_loss(labels, probs, labels=np.arange(shape[1]))
        assert METRICS["log_loss"](labels, probs) == expected
        assert METRICS["accuracy"](labels, probs) == reference.accuracy_score(labels, probs.argmax(axis=1))
