"""Scores are those of scikit-learn and SciPy, or of a worked example."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics as reference

from pipeline.tasks.metrics import Kind, Metric, find_metric

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 6, 300)
PROBS = RNG.dirichlet(np.ones(6), 300) * 0.6 + np.eye(6)[LABELS] * 0.4
TRUTH = (RNG.random((300, 5)) < [0.5, 0.3, 0.2, 0.1, 0.02]).astype(np.float32)
TRUTH[:, 4][:2] = 1
CHANCES = (TRUTH * 0.4 + RNG.random((300, 5)) * 0.6).round(2)  # rounded, so that there are ties
NUMBERS = RNG.gamma(2, 10, (300, 2))
GUESSES = NUMBERS + RNG.normal(0, 6, (300, 2))


def metric_of(name: str, of: Kind) -> Metric:
    metric = find_metric(name, of)
    assert metric is not None
    return metric


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_top_k_accuracy(k: int) -> None:
    expected = reference.top_k_accuracy_score(LABELS, PROBS, k=k)
    assert metric_of(f"top{k}_accuracy", "classes")(LABELS, PROBS) == pytest.approx(expected)


def test_map_at_k_by_hand() -> None:
    probs = np.array([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2], [0.5, 0.3, 0.2], [0.4, 0.2, 0.4]])
    labels = np.array([0, 1, 2, 2])  # places 1, 2, 3, and 2 (the first of two equal guesses is class 0)
    assert metric_of("map@3", "classes")(labels, probs) == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 2) / 4)
    assert metric_of("map@2", "classes")(labels, probs) == pytest.approx((1 + 1 / 2 + 0 + 1 / 2) / 4)


def test_map_at_k_of_several_tags_by_hand() -> None:
    """Tags 0 and 2 are right: guesses 2, 1, 0 hit at places 1 and 3; of at most two guesses, only the first hits."""
    truth, probs = np.array([[1.0, 0, 1, 0]]), np.array([[0.5, 0.6, 0.9, 0.1]])
    assert metric_of("map@3", "tags")(truth, probs) == pytest.approx((1 + 2 / 3) / 2)
    assert metric_of("map@2", "tags")(truth, probs) == pytest.approx(1 / 2)
    assert metric_of("map@1", "tags")(truth, probs) == pytest.approx(1)


@pytest.mark.parametrize("average", ["sample", "macro", "micro"])
@pytest.mark.parametrize("beta", [1, 2, 0.5])
def test_f_beta_of_tags(average: str, beta: float) -> None:
    truth, values = TRUTH.copy(), (CHANCES > 0.5).astype(float)
    truth[:5], values[3:8] = 0, 0  # rows without tags, without decisions, and without both
    expected = reference.fbeta_score(
        truth, values, beta=beta, average={"sample": "samples"}.get(average, average), zero_division=0
    )
    assert metric_of(f"{average}_f{beta}", "tags")(truth, values) == pytest.approx(expected)


@pytest.mark.parametrize("average", ["macro", "micro"])
def test_f_beta_of_classes(average: str) -> None:
    expected = reference.fbeta_score(LABELS, PROBS.argmax(1), beta=2, average=average)
    assert metric_of(f"{average}_f2", "classes")(LABELS, PROBS) == pytest.approx(expected)


def test_scores_of_probabilities_of_tags() -> None:
    columns = range(TRUTH.shape[1])
    auc = [reference.roc_auc_score(TRUTH[:, c], CHANCES[:, c]) for c in columns]
    assert metric_of("roc_auc", "tags")(TRUTH, CHANCES) == pytest.approx(np.mean(auc))
    loss = [reference.log_loss(TRUTH[:, c], CHANCES[:, c].clip(1e-9, 1 - 1e-9)) for c in columns]
    assert metric_of("log_loss", "tags")(TRUTH, CHANCES.clip(1e-9, 1 - 1e-9)) == pytest.approx(np.mean(loss))
    precision = reference.average_precision_score(TRUTH, CHANCES, average="macro")
    assert metric_of("mean_average_precision", "tags")(TRUTH, CHANCES) == pytest.approx(precision)
    exact = reference.accuracy_score(TRUTH, CHANCES >= 0.5)
    assert metric_of("subset_accuracy", "tags")(TRUTH, CHANCES) == pytest.approx(exact)


def test_a_tag_that_no_row_has_is_left_out_of_the_means() -> None:
    truth = np.hstack([TRUTH, np.zeros((300, 1))])
    chances = np.hstack([CHANCES, RNG.random((300, 1))])
    for name in ("roc_auc", "mean_average_precision"):
        metric = metric_of(name, "tags")
        assert metric(truth, chances) == pytest.approx(metric(TRUTH, CHANCES))
        assert math.isnan(metric(truth[:, 5:], chances[:, 5:]))


def test_balanced_log_loss() -> None:
    weights = 1 / np.bincount(LABELS)[LABELS]
    expected = reference.log_loss(LABELS, PROBS, sample_weight=weights, labels=np.arange(6))
    assert metric_of("balanced_log_loss", "classes")(LABELS, PROBS) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("rmse", reference.root_mean_squared_error(NUMBERS, GUESSES)),
        ("mae", reference.mean_absolute_error(NUMBERS, GUESSES)),
        ("rmsle", reference.root_mean_squared_log_error(NUMBERS, GUESSES.clip(0))),
        ("r2", reference.r2_score(NUMBERS, GUESSES)),
        ("spearman", np.mean([scipy.stats.spearmanr(NUMBERS[:, c], GUESSES[:, c]).statistic for c in (0, 1)])),
    ],
)
def test_scores_of_numbers(name: str, expected: float) -> None:
    assert metric_of(name, "numbers")(NUMBERS, GUESSES) == pytest.approx(expected)


def test_scores_that_are_not_defined() -> None:
    same = np.ones((5, 1))
    assert math.isnan(metric_of("spearman", "numbers")(same, np.arange(5.0)[:, None]))
    assert math.isnan(metric_of("r2", "numbers")(same, np.arange(5.0)[:, None]))
