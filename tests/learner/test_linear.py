"""A linear head is the one that scikit-learn fits, and its penalty is chosen on rows that were left out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.multiclass import OneVsRestClassifier
from sklearn.preprocessing import StandardScaler
from torch import nn

from pipeline.learner.linear import Design, Head, Objective, Problem, fit, fit_with_chosen_penalty, quick_products


def features(rows: int = 200, width: int = 30, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Features (N, D) float32 of very different scales, one of them constant, and classes (N,)."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, classes, rows)
    values = rng.normal(size=(classes, width))[truth] * 0.4 + rng.normal(size=(rows, width))
    values = values @ rng.normal(size=(width, width)) * np.geomspace(0.01, 100, width) + 5
    values[:, 3] = 7
    return values.astype(np.float32), truth


@pytest.mark.parametrize("classes", [2, 3, 12])
@pytest.mark.parametrize("penalty", [1.0, 1e-2, 1e-4])
def test_it_is_scikit_learns_logistic_regression(classes: int, penalty: float) -> None:
    values, truth = features(classes=classes)
    targets = np.eye(classes, dtype=np.float32)[truth]
    design = Design(values[:150])
    with quick_products(1):
        head = design.head(fit(Objective(design.rows, targets[:150], nn.CrossEntropyLoss(), penalty)))
    scaler = StandardScaler().fit(values[:150])
    strength = (2 if classes == 2 else 1) / (penalty * 150)
    solver = "newton-cholesky" if classes == 2 else "newton-cg"
    known = LogisticRegression(C=strength, solver=solver, max_iter=10_000, tol=1e-9)
    expected = known.fit(scaler.transform(values[:150]), truth[:150]).predict_proba(scaler.transform(values))
    np.testing.assert_allclose(head.logits(values).softmax(1), expected, atol=1e-4)


def test_several_labels_and_numbers_have_their_known_solutions() -> None:
    values, truth = features(classes=4)
    scaled = StandardScaler().fit_transform(values.astype(float))
    tags = np.eye(4, dtype=np.float32)[truth]
    tags[:, 0] = values[:, 0] > values[:, 0].mean()
    design = Design(values)
    binary = design.head(fit(Objective(design.rows, tags, nn.BCEWithLogitsLoss(), 0.01)))
    single = LogisticRegression(C=1 / (0.01 * 4 * 200), tol=1e-9, max_iter=10_000, solver="newton-cholesky")
    known = OneVsRestClassifier(single)
    np.testing.assert_allclose(
        binary.logits(values).sigmoid(), known.fit(scaled, tags).predict_proba(scaled), atol=1e-4
    )
    number = values[:, :1] * 0.1 + values[:, 1:2]
    ridge = design.head(fit(Objective(design.rows, number, nn.MSELoss(), 0.02)))
    expected = Ridge(alpha=0.02 * 200 / 2).fit(scaled, number).predict(scaled)
    np.testing.assert_allclose(ridge.logits(values).numpy().ravel(), expected.ravel(), atol=1e-3 * expected.std())


@pytest.mark.parametrize(("signal", "penalties"), [(0.0, (1.0, 10.0)), (4.0, (1e-6, 1e-1))])
def test_the_penalty_suits_the_data(signal: float, penalties: tuple[float, float]) -> None:
    """Features that say nothing get a strong one; some that say everything a weak one."""
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 2, 120)
    values = rng.normal(size=(120, 40)).astype(np.float32)
    values[:, 0] += signal * truth
    targets, parts = np.eye(2, dtype=np.float32)[truth], np.arange(120) % 4

    def val_loss(part: int, head: Head) -> float:
        here = parts == part
        return float(nn.functional.cross_entropy(head.logits(values[here]), torch.from_numpy(truth[here])))

    problem = Problem(values, targets, nn.CrossEntropyLoss(), parts, val_loss)
    _, penalty, tried = fit_with_chosen_penalty(problem)
    assert penalties[0] <= penalty <= penalties[1]
    assert [pair[0] for pair in tried] == sorted((pair[0] for pair in tried), reverse=True)
