"""Fits a linear head to features: multinomial logistic regression, and its like for the other kinds of tasks.

The head minimises the mean loss of the task plus ``penalty / 2`` times the sum of the squared weights; biases are not
penalised. The features are standardised first. For classes this is what scikit-learn's StandardScaler and
LogisticRegression compute, with ``C = 1 / (penalty * N)`` (twice that for two classes, for which scikit-learn has one
vector of weights instead of two).

Legend: N rows, D features, C targets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import nn

#: The penalties that are tried.
PENALTIES = tuple(10.0**exponent for exponent in range(1, -6, -1))
#: Length of the gradient at which a fit ends: one to choose the penalty, and the last one, whose probabilities are then
#: within 1e-4 of the solution.
ROUGH, EXACT = 1e-3, 1e-5
#: Smallest relative gain for which a weaker penalty is chosen.
MIN_GAIN = 0.05
#: Largest number of features in all rows, times the number of classes, for which each part of the rows is left out.
MAX_FOR_ALL_PARTS = 5e7
#: Above this number of features in all rows together, they are kept in float32: 1 GiB in float64.
MAX_FLOAT64 = 2**27


class Head(NamedTuple):
    """logits (N, C) = features (N, D) @ weight (D, C) + bias (C,), float64."""

    weight: np.ndarray
    bias: np.ndarray

    def logits(self, features: np.ndarray) -> torch.Tensor:
        """The logits (N, C) float64 of features (N, D)."""
        return torch.from_numpy(features @ self.weight + self.bias)


class Design:
    """Standardised features in the directions of their principal components.

    The rotation does not change the fitted logits, since the penalty is the same in all directions. But the solver
    needs fewer iterations, because the curvature of the loss along each direction is known.

    rows: (N, K) the features in these directions; those without any variance are left out
    mean, std: (D,) of the features
    directions: (D, K)
    variances: (K,)
    """

    def __init__(self, features: np.ndarray) -> None:
        """features: (N, D) float32."""
        kind = np.float32 if features.size > MAX_FLOAT64 else np.float64
        self.mean, std = features.mean(axis=0, dtype=np.float64), features.std(axis=0, dtype=np.float64)
        self.std = np.where(std > 1e-6 * std.max(initial=0), std, 1)
        scaled = ((features - self.mean) / self.std).astype(kind)
        variances, directions = np.linalg.eigh((scaled.T @ scaled / len(scaled)).astype(np.float64))
        kept = variances > 1e-9 * variances[-1]
        self.variances, self.directions = variances[kept], directions[:, kept]
        self.rows = scaled @ self.directions.astype(kind)

    def head(self, fitted: Head) -> Head:
        """The head for the features as they are, from one for ``rows``."""
        weight = self.directions @ fitted.weight / self.std[:, None]
        return Head(weight, fitted.bias - self.mean @ weight)


class Objective:
    """The penalised loss as a function of one vector: the weights, scaled to a curvature of nearly 1, and the biases.

    rows: (N, K) features, best those of a Design
    targets: (N, C) float32
    loss: mean loss of logits (N, C) and targets
    start: the head to start from, such as that of another penalty; None for zeros
    """

    def __init__(
        self, rows: np.ndarray, targets: np.ndarray, loss: nn.Module, penalty: float, start: Head | None = None
    ) -> None:
        self.rows, self.penalty, self.classes = rows, penalty, targets.shape[1]
        self.loss, self.targets = loss.double(), torch.from_numpy(targets).double()
        self.start = start or Head(np.zeros((rows.shape[1], self.classes)), np.zeros(self.classes))
        self.scale = np.ones((rows.shape[1], 1))
        self.at: np.ndarray | None = None
        self.move(self.flat(self.start))
        variances = np.square(rows, dtype=np.float64).mean(axis=0)
        self.scale = 1 / np.sqrt(self.mean_curvature() * variances + penalty)[:, None]
        self.at = None

    def mean_curvature(self) -> float:
        """The mean second derivative of the loss of a row by one of its logits, by Hutchinson's estimate (1990)."""
        signs = torch.from_numpy(np.random.default_rng(0).choice([-1.0, 1.0], self.logits.shape))
        (bent,) = torch.autograd.grad(self.slope, self.logits, signs, retain_graph=True)
        return max(0.0, float((signs * bent).sum()) / self.classes)

    def head(self, flat: np.ndarray) -> Head:
        """The head that a vector describes."""
        return Head(self.scale * flat[: -self.classes].reshape(-1, self.classes), flat[-self.classes :])

    def flat(self, head: Head) -> np.ndarray:
        """The vector that describes a head."""
        return np.concatenate([(head.weight / self.scale).ravel(), head.bias])

    def logits_of(self, head: Head) -> torch.Tensor:
        """The logits (N, C) float64 of the rows."""
        return torch.from_numpy((self.rows @ head.weight.astype(self.rows.dtype)).astype(np.float64) + head.bias)

    def slope_of(self, slope: torch.Tensor, weight: np.ndarray) -> np.ndarray:
        """The derivative by the vector, from that by the logits (N, C), and the penalty on ``weight``."""
        of_logits = slope.detach().numpy()
        product = (self.rows.T @ of_logits.astype(self.rows.dtype)).astype(np.float64)
        return np.concatenate([(self.scale * (product + self.penalty * weight)).ravel(), of_logits.sum(axis=0)])

    def move(self, flat: np.ndarray) -> None:
        """Computes value, gradient and curvature at a vector, unless they are those of the last call."""
        if self.at is not None and np.array_equal(flat, self.at):
            return
        head = self.head(flat)
        self.logits = self.logits_of(head).requires_grad_()
        value = self.loss(self.logits, self.targets)
        (self.slope,) = torch.autograd.grad(value, self.logits, create_graph=True)
        self.value = value.item() + self.penalty / 2 * float(np.square(head.weight).sum())
        self.gradient, self.at = self.slope_of(self.slope, head.weight), flat.copy()

    def value_and_gradient(self, flat: np.ndarray) -> tuple[float, np.ndarray]:
        """The penalised loss, and its gradient."""
        self.move(flat)
        return self.value, self.gradient

    def curvature(self, flat: np.ndarray, direction: np.ndarray) -> np.ndarray:
        """The product of the second derivatives at a vector with a direction."""
        self.move(flat)
        step = self.head(direction)
        (bent,) = torch.autograd.grad(self.slope, self.logits, self.logits_of(step), retain_graph=True)
        return self.slope_of(bent, step.weight)


def fit(objective: Objective, tolerance: float = EXACT) -> Head:
    """The best head, by Newton's method with conjugate gradients in a trust region (Steihaug, 1983).

    tolerance: length of the gradient at the end
    """
    from scipy.optimize import minimize  # here, since its import takes time that other runs do not need

    found = minimize(
        objective.value_and_gradient, objective.flat(objective.start), jac=True, hessp=objective.curvature,
        method="trust-ncg",
        options={"gtol": tolerance, "maxiter": 500, "initial_trust_radius": 10, "max_trust_radius": 1e4},
    )  # fmt: skip
    return objective.head(found.x)


@contextmanager
def quick_products(threads: int) -> Iterator[None]:
    """Context in which NumPy multiplies with this number of threads, and torch, which has little to do, with one.

    Otherwise the threads of both would wait for the same cores; a fit would take three times as long.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(threads, "blas"):
            yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class Problem:
    """What a head is fitted to.

    rows: (N, D) float32 features
    targets: (N, C) float32
    loss: mean loss of logits (M, C) and targets of some rows
    parts: (N,) int, which part of the rows each belongs to, to choose the penalty
    val_loss: loss of the part with this number, as it is reported, by a head for ``rows``
    """

    rows: np.ndarray
    targets: np.ndarray
    loss: nn.Module
    parts: np.ndarray
    val_loss: Callable[[int, Head], float]


def fit_with_chosen_penalty(problem: Problem) -> tuple[Head, float, list[tuple[float, float]]]:
    """Fits a head to all rows with the penalty that is best for parts of the rows that were left out.

    The penalties are tried from the strongest one, as long as each lowers this loss by at least MIN_GAIN. If many
    classes would make this slow, only the first part is left out.

    Returns the head, its penalty, and (penalty, mean loss of the parts) of each penalty that was tried.
    """
    design = Design(problem.rows)
    quick = design.rows.astype(np.float32)
    parts = np.unique(problem.parts)
    if design.rows.size * problem.targets.shape[1] > MAX_FOR_ALL_PARTS:
        parts = parts[:1]
    fitted_to = [np.full(len(quick), True), *(problem.parts != part for part in parts)]
    heads: list[Head | None] = [None] * len(fitted_to)
    begun, tried = None, []
    for penalty in PENALTIES:
        for place, rows in enumerate(fitted_to):
            objective = Objective(quick[rows], problem.targets[rows], problem.loss, penalty, heads[place])
            heads[place] = fit(objective, ROUGH)
        first, *others = (head for head in heads if head is not None)
        losses = [problem.val_loss(part, design.head(head)) for part, head in zip(parts, others, strict=True)]
        tried.append((penalty, float(np.mean(losses))))
        if len(tried) > 1 and tried[-1][1] > (1 - MIN_GAIN) * tried[-2][1]:
            break
        begun, best = first, penalty
    return design.head(fit(Objective(design.rows, problem.targets, problem.loss, best, begun))), best, tried
