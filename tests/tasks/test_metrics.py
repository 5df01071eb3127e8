"""Metrics are scikit-learn's; the interval is a promise that holds."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import sklearn.metrics as reference

from pipeline.tasks.metrics import METRICS, Kind, Metric, find_metric, same_metric

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 3, 200)
PROBS = RNG.dirichlet([1, 1, 1], 200) * 0.5 + np.eye(3)[LABELS] * 0.5


def metric_of(name: str, of: Kind = "classes") -> Metric:
    metric = find_metric(name, of)
    assert metric is not None
    return metric


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
    assert metric_of(name)(LABELS, PROBS) == pytest.approx(expected)


def test_directions() -> None:
    for metric in METRICS:
        if metric.of != "classes":
            continue
        right, wrong = np.eye(3)[LABELS] * 0.97 + 0.01, np.eye(3)[(LABELS + 1) % 3] * 0.97 + 0.01
        better = metric(LABELS, right) > metric(LABELS, wrong)
        assert better == metric.greater_is_better, metric.name


def test_a_fold_that_lacks_a_class() -> None:
    some = LABELS != 2
    assert np.isfinite(metric_of("log_loss")(LABELS[some], PROBS[some]))
    assert np.isnan(metric_of("roc_auc")(LABELS[LABELS == 0], PROBS[LABELS == 0]))


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
        assert metric_of("log_loss")(labels, probs) == expected
        assert metric_of("accuracy")(labels, probs) == reference.accuracy_score(labels, probs.argmax(axis=1))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("acuracy", "accuracy"),
        ("log-loss", "log_loss"),
        ("AUC", "roc_auc"),
        ("QWK", "quadratic_kappa"),
        ("mean_f1", "sample_f1"),
        ("f1_macro", "macro_f1"),
        ("MAP5", "map@5"),
        ("top5", "top5_accuracy"),
    ],
)
def test_other_names_of_a_metric_are_known(name: str, expected: str) -> None:
    assert same_metric(name) == expected


@pytest.mark.parametrize(
    "name",
    [
        "mse",
        "mape",
        "rmspe",
        "msle",
        "f1",
        "kappa",
        "cohen_kappa",
        "unbalanced_accuracy",
        "sample_f.5",
        "map50",
        "pearson",
    ],
)
def test_no_other_metric_is_suggested(name: str) -> None:
    assert same_metric(name) == ""


def test_kappa_counts_distances_between_all_grades() -> None:
    """Also if nobody has grade 2."""
    labels, found = np.array([0, 0, 3, 3, 1, 3]), np.array([0, 3, 3, 1, 1, 0])
    expected = reference.cohen_kappa_score(labels, found, weights="quadratic", labels=range(4))
    assert metric_of("quadratic_kappa")(labels, np.eye(4)[found]) == pytest.approx(expected)


def test_kappa_is_scikit_learns_to_the_last_bit() -> None:
    rng = np.random.default_rng(0)
    for _ in range(40):
        classes, rows = int(rng.integers(2, 9)), int(rng.integers(5, 400))
        labels, found = rng.integers(0, classes, (2, rows))
        expected = reference.cohen_kappa_score(labels, found, weights="quadratic", labels=range(classes))
        assert metric_of("quadratic_kappa")(labels, np.eye(classes)[found]) == expected


def test_scores_of_decisions_are_scikit_learns() -> None:
    """Also with classes that do not occur, that are never predicted, and with a single class."""
    rng = np.random.default_rng(1)
    for turn in range(80):
        classes, rows = int(rng.integers(2, 7)), int(rng.integers(1, 60))
        probs = rng.dirichlet(np.ones(classes) * 0.5, rows)
        labels = rng.integers(rng.integers(1, classes + 1), size=rows)
        best = probs.argmax(axis=1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = {
                "balanced_accuracy": reference.balanced_accuracy_score(labels, best),
                "macro_f1": reference.f1_score(labels, best, average="macro", zero_division=0),
                "macro_f2": reference.fbeta_score(labels, best, beta=2, average="macro", zero_division=0),
                "micro_f0.5": reference.fbeta_score(labels, best, beta=0.5, average="micro", zero_division=0),
                "matthews": reference.matthews_corrcoef(labels, best),
            }
        for name, value in expected.items():
            assert metric_of(name)(labels, probs) == pytest.approx(value, abs=1e-12), (turn, name)
