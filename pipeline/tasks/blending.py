"""Ways to blend the predictions of several runs.

Each way learns something from out-of-fold predictions (weights, for example) and gives a function that blends
predictions of any rows. Its honest score is that of rows that it was not learnt from (nesting.py).

Legend: K runs, N rows, C targets; ``stack`` (K, N, C) predictions of all runs for the same rows; targets (N, C).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from pipeline.tasks.metrics import Metric
from pipeline.tasks.postprocessing import sampled_rows
from pipeline.tasks.task import Task

#: Blends predictions (K, N, C) -> (N, C).
Blend = Callable[[np.ndarray], np.ndarray]

#: Number of runs that greedy selection picks at most; more gain nothing.
PICKS = 40
#: Steps of the search for weights: shares that move from the other runs to one of them, or back.
MOVES = (0.5, 0.25, 0.1, 0.05, 0.02, 0.01)
#: Number of quantiles that describe the predictions of a run for a target.
QUANTILES = 1001
#: Smallest probability that counts as evidence.
LEAST = 1e-6


@dataclass(frozen=True)
class Learnt:
    """What a way has learnt.

    blend: blends predictions of any rows
    weights: share of each run, (K,), if there is one; they sum to 1
    """

    blend: Blend
    weights: list[float] | None = None


@dataclass(frozen=True)
class Scored:
    """Out-of-fold rows whose score is to be improved.

    task, metric: how they are scored, with the default rule
    targets: (N, C)
    stack: (K, N, C)
    """

    task: Task
    metric: Metric
    targets: np.ndarray
    stack: np.ndarray
    truth: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        truth = self.task.compared(self.metric, self.task.truth(self.targets))
        object.__setattr__(self, "truth", truth)

    def sample(self) -> Scored:
        """The rows, or some of them if there are so many that a search would take long."""
        rows = sampled_rows(*self.targets.shape)
        return self if len(rows) == len(self.targets) else self.only(rows)

    def only(self, rows: np.ndarray) -> Scored:
        """Some of the rows: their places, or a mask (N,)."""
        return Scored(self.task, self.metric, self.targets[rows], self.stack[:, rows])

    def quality(self, predictions: np.ndarray) -> float:
        """The score of predictions (N, C), greater if they are better; -inf if it is undefined."""
        values = self.task.values(self.metric, predictions, self.task.default_rule(self.metric))
        score = self.metric(self.truth, values)
        return -np.inf if np.isnan(score) else score if self.metric.greater_is_better else -score


def weighted(weights: np.ndarray) -> Learnt:
    """The weighted mean."""
    return Learnt(lambda stack: np.tensordot(weights, stack, 1), [float(weight) for weight in weights])


def to_sum(task: Task, predictions: np.ndarray) -> np.ndarray:
    """Probabilities of classes (N, C) that sum to 1; other predictions stay."""
    if task.kind in ("classification", "ordinal"):
        return predictions / predictions.sum(axis=1, keepdims=True).clip(1e-12)
    return predictions


# --- without anything learnt ------------------------------------------------------------------------------------


def mean(scored: Scored) -> Learnt:
    """The arithmetic mean."""
    return weighted(np.full(len(scored.stack), 1 / len(scored.stack)))


def geometric_mean(scored: Scored) -> Learnt:
    """The geometric mean, of classes scaled to sum to 1: a class that one run rules out is unlikely."""

    def blend(stack: np.ndarray) -> np.ndarray:
        return to_sum(scored.task, np.exp(np.log(stack.clip(LEAST)).mean(axis=0)))

    return Learnt(blend)


def logit_mean(scored: Scored) -> Learnt:
    """The mean of the log-odds of each class or tag against the others."""

    def blend(stack: np.ndarray) -> np.ndarray:
        clipped = stack.clip(LEAST, 1 - LEAST)
        odds = np.exp(np.log(clipped / (1 - clipped)).mean(axis=0))
        return to_sum(scored.task, odds / (1 + odds))

    return Learnt(blend)


def rank_mean(scored: Scored) -> Learnt:
    """The mean rank among the out-of-fold predictions of the run, as the value that has this rank on average.

    For each target, the predictions of each run become ranks, so that runs on different scales count the same. The mean
    rank is brought back to the mean scale of the runs, so that probabilities stay probabilities.
    """
    levels = np.linspace(0, 1, QUANTILES)
    quantiles = np.quantile(scored.stack, levels, axis=1)  # (Q, K, C)
    scale = quantiles.mean(axis=1)  # (Q, C)

    def rank(values: np.ndarray, known: np.ndarray) -> np.ndarray:
        """The rank (N,) from 0 to 1; of equal known values, the middle one."""
        ends = [np.searchsorted(known, values, side=side) for side in ("left", "right")]
        inside = np.interp(values, known, levels)
        is_tie = ends[1] > ends[0] + 1
        return np.where(is_tie, (ends[0] + ends[1] - 1) / 2 / (QUANTILES - 1), inside)

    def blend(stack: np.ndarray) -> np.ndarray:
        blended = np.empty(stack.shape[1:])
        for target in range(stack.shape[2]):
            ranks = [rank(one[:, target], quantiles[:, run, target]) for run, one in enumerate(stack)]
            blended[:, target] = np.interp(np.mean(ranks, axis=0), levels, scale[:, target])
        return to_sum(scored.task, blended)

    return Learnt(blend)


# --- learnt -----------------------------------------------------------------------------------------------------


def search_weights(scored: Scored) -> Learnt:
    """Weights from 0 to 1 that sum to 1, with the best score: a search that works for every metric.

    It starts from equal weights. A share moves from all runs to one of them, or back, as long as the score improves;
    then a smaller share.
    """
    scored = scored.sample()
    number = len(scored.stack)
    weights, blended = np.full(number, 1 / number), scored.stack.mean(axis=0)
    best = scored.quality(blended)
    for move in MOVES:
        improved = True
        while improved:
            improved, start, before = False, weights, blended
            for run in range(number):
                for share in (move, -min(move, start[run])):
                    if share == 0 or share <= -1:
                        continue
                    total = 1 - share if share > 0 else 1 / (1 + share)
                    part = share if share > 0 else share / (1 + share)
                    tried = total * before + part * scored.stack[run]
                    if (quality := scored.quality(tried)) > best:
                        best, blended, improved = quality, tried, True
                        weights = (total * start + part * np.eye(number)[run]).clip(0)
    return weighted(weights / weights.sum())


def select_greedily(scored: Scored) -> Learnt:
    """Runs are picked one after another, also several times, each the one whose mean with those before is best.

    At most PICKS, and no more than scored best (Caruana et al., 2004, "Ensemble selection from libraries of models").
    """
    scored = scored.sample()
    counts, total = np.zeros(len(scored.stack)), np.zeros(scored.stack.shape[1:])
    best, best_counts = -np.inf, counts
    for pick in range(1, PICKS + 1):
        qualities = [scored.quality((total + one) / pick) for one in scored.stack]
        run = int(np.argmax(qualities))
        counts, total = counts + np.eye(len(counts))[run], total + scored.stack[run]
        if qualities[run] > best:
            best, best_counts = qualities[run], counts
    return weighted(best_counts / best_counts.sum()) if best_counts.any() else mean(scored)


def stack_runs(scored: Scored) -> Learnt:
    """Logistic regression on the evidence (log-odds) of the runs; for numbers, linear regression.

    One slope for each run and one constant for each target, so that few rows suffice. The penalty draws the slopes to
    those of the mean, 1 / K, and the constants to 0.
    """
    from scipy.optimize import minimize

    scored = scored.sample()
    task, targets, number = scored.task, scored.targets, len(scored.stack)
    is_number = task.kind == "regression"
    scale = np.maximum(targets.std(axis=0), 1e-9) if is_number else np.ones(targets.shape[1])
    centre = targets.mean(axis=0) if is_number else np.zeros(targets.shape[1])
    wanted = (targets - centre) / scale

    def evidence_of(stack: np.ndarray) -> np.ndarray:
        return np.stack([(task.evidence(one) - centre) / scale for one in stack])

    def predicted(slopes: np.ndarray, constants: np.ndarray, evidence: np.ndarray) -> np.ndarray:
        return task.chances(np.tensordot(slopes, evidence, 1) + constants)

    evidence = evidence_of(scored.stack)
    start = np.concatenate([np.full(number, 1 / number), np.zeros(targets.shape[1])])

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        """The penalised loss and its gradient, which is the residual times the input for both kinds of regression."""
        found = predicted(weights[:number], weights[number:], evidence)
        cells = targets.size if task.kind == "multilabel" else len(targets)
        residual = (found - wanted) / cells
        value = float(np.mean(((found - wanted) ** 2).sum(axis=1)) / 2) if is_number else task.val_loss(targets, found)
        away = (weights - start) / len(targets)
        gradient = np.concatenate([np.tensordot(evidence, residual, 2), residual.sum(axis=0)])
        return value + float(away @ (weights - start)) / 2, gradient + away

    learnt = minimize(loss, start, jac=True, method="L-BFGS-B").x
    slopes, constants = learnt[:number], learnt[number:]

    def blend(stack: np.ndarray) -> np.ndarray:
        found = predicted(slopes, constants, evidence_of(stack))
        return found * scale + centre if is_number else found

    return Learnt(blend)


#: All ways by their names: the first one is preferred unless another one is clearly better.
WAYS: dict[str, Callable[[Scored], Learnt]] = {
    "mean": mean,
    "geometric mean": geometric_mean,
    "logit mean": logit_mean,
    "rank mean": rank_mean,
    "weights": search_weights,
    "greedy selection": select_greedily,
    "stacking": stack_runs,
}


def ways_for(task: Task, stack: np.ndarray) -> dict[str, Callable[[Scored], Learnt]]:
    """The ways that suit the predictions: log-odds need probabilities, and geometric means positive numbers."""
    left_out = []
    if task.kind == "regression":
        left_out = ["logit mean"] + (["geometric mean"] if (stack <= 0).any() else [])
    return {name: way for name, way in WAYS.items() if name not in left_out}


class Elsewhere:
    """A way as a function for ``nested_values``: rows to learn from (N,) bool -> the blend of all rows (N, C).

    What was learnt from the same rows is kept, so that it is learnt once.
    """

    def __init__(self, way: Callable[[Scored], Learnt], scored: Scored) -> None:
        self.way, self.scored = way, scored
        self.found: dict[bytes, np.ndarray] = {}

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        key = rows.tobytes()
        if key not in self.found:
            self.found[key] = self.way(self.scored.only(rows)).blend(self.scored.stack)
        return self.found[key]

    def out_of_fold(self, parts: np.ndarray) -> np.ndarray:
        """The blend (N, C) in which each row is blended by what the other parts (N,) int have taught."""
        blended = np.empty_like(self.scored.targets, dtype=float)
        for part in np.unique(parts):
            blended[parts == part] = self(parts != part)[parts == part]
        return blended
