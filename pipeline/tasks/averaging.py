"""Estimates what averaging several models is worth.

Each out-of-fold row is predicted by one model, but a test row by the mean of all models, which is usually better. The
labels of the test rows are not known. They are drawn from what the out-of-fold rows say of labels and predictions; then
the mean and the single models are scored on them.

Legend: K models, M test rows, N out-of-fold rows, C targets; predictions (N, C).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.tasks.metrics import Metric
from pipeline.tasks.task import Task

#: Largest number of rows that are used, since more would gain little precision.
MAX_ROWS = 20_000
#: Number of rows to draw labels for, all draws together, and limits of the number of draws.
DRAWN_ROWS, FEWEST_DRAWS, MOST_DRAWS = 20_000, 4, 100
#: Largest weight of the evidence of a model, so that separable rows do not make it infinite.
MAX_SLOPE = 5.0


@dataclass(frozen=True)
class Line:
    """How the label of a row follows from the evidence of one model: its chances are those of slope * evidence + base.

    slope: (C,), 0 if the predictions say nothing
    base: (C,), what is known without them
    spread: (C,), standard deviation of numbers around their chances; 0 for classes and tags
    """

    slope: np.ndarray
    base: np.ndarray
    spread: np.ndarray


def fit_line(task: Task, targets: np.ndarray, predictions: np.ndarray) -> Line:
    """The line that suits the out-of-fold rows best: targets (N, C), predictions (N, C)."""
    evidence = task.evidence(predictions.astype(float))
    if task.kind == "regression":
        centred, wanted = evidence - evidence.mean(axis=0), targets - targets.mean(axis=0)
        slope = (centred * wanted).sum(axis=0) / np.maximum((centred**2).sum(axis=0), 1e-12)
        slope = slope.clip(0, MAX_SLOPE)
        base = targets.mean(axis=0) - slope * evidence.mean(axis=0)
        return Line(slope, base, (targets - slope * evidence - base).std(axis=0))
    from scipy.optimize import minimize

    prior = (targets.sum(axis=0) + 0.5) / (len(targets) + 1)
    known = task.evidence(prior[None])[0]

    def loss(weights: np.ndarray) -> float:
        return task.val_loss(targets, task.chances(weights[0] * evidence + weights[1] * known))

    slope, share = minimize(loss, [0.5, 0.5], method="L-BFGS-B", bounds=[(0, MAX_SLOPE), (0, 2)]).x
    return Line(np.full(len(known), slope), share * known, np.zeros(len(known)))


def line_of_mean(line: Line, evidence: np.ndarray) -> Line:
    """The line for the mean evidence of K models, from that for one of them and the evidence (K, M, C) on some rows.

    What the models disagree about is noise, of which the mean has less, so that it deserves a larger slope: the
    correction for attenuation (Spearman, 1904). What they share, right or wrong, stays.
    """
    number = len(evidence)
    noise = evidence.var(axis=0, ddof=1).mean(axis=0)  # (C,)
    total = np.maximum(evidence.reshape(-1, evidence.shape[-1]).var(axis=0), noise)
    left = total - noise * (1 - 1 / number)  # variance of the mean
    if np.ptp(line.slope) == 0:  # one slope for all targets
        total, left = total.mean(), left.mean()
    ratio = total / np.maximum(left, 1e-12)
    slope = (line.slope * ratio).clip(0, MAX_SLOPE)
    centre = evidence.mean(axis=(0, 1))
    base = line.base if not line.spread.any() else line.base + (line.slope - slope) * centre
    explained = (slope**2 * left - line.slope**2 * total).clip(0)  # of numbers: what the mean explains in addition
    return Line(slope, base, np.sqrt((line.spread**2 - explained).clip(0)))


@dataclass(frozen=True)
class Likely:
    """What is known of the labels of test rows, for M of them.

    rows: their places (M,) among the test rows
    chances: (M, C)
    truths: draws of a truth (M, ...) from the chances
    """

    rows: np.ndarray
    chances: np.ndarray
    truths: list[np.ndarray]


def likely_labels(task: Task, members: list[np.ndarray], targets: np.ndarray, predictions: np.ndarray) -> Likely:
    """Draws labels for the test rows, by what the out-of-fold rows say of labels and predictions.

    members: test predictions of each of K models
    targets, predictions: (N, C) of the out-of-fold rows, each predicted by one model
    """
    rng = np.random.default_rng(0)
    if len(targets) > MAX_ROWS:
        chosen = rng.choice(len(targets), MAX_ROWS, replace=False)
        targets, predictions = targets[chosen], predictions[chosen]
    rows = np.arange(len(members[0]))
    if len(rows) > MAX_ROWS:
        rows = rng.choice(len(rows), MAX_ROWS, replace=False)
    evidence = np.stack([task.evidence(member[rows].astype(float)) for member in members])
    line = fit_line(task, targets, predictions)
    line = line_of_mean(line, evidence) if len(members) > 1 else line
    chances = task.chances(line.slope * evidence.mean(axis=0) + line.base)
    draws = int(np.clip(DRAWN_ROWS // len(rows), FEWEST_DRAWS, MOST_DRAWS))
    columns = task.uniform_columns(chances.shape[1])
    return Likely(
        rows, chances, [task.draw(chances, rng.random((len(rows), columns)), line.spread) for _ in range(draws)]
    )


def averaging_gain(
    task: Task,
    metric: Metric,
    likely: Likely,
    values_of_members: list[np.ndarray],
    values_of_mean: np.ndarray,
    score: float,
) -> float:
    """The score of the mean of K models minus that of one of them; 0 for a single model, or if a score is undefined.

    It is the share of what one model lacks to a perfect score, so that the result cannot be better than perfect.

    values_of_members, values_of_mean: what the metric looks at, of all test rows
    score: that of one model, out of fold
    """
    if len(values_of_members) < 2:
        return 0.0
    values = [each[likely.rows] for each in (*values_of_members, values_of_mean)]
    scores = []
    for drawn in likely.truths:
        truth = task.compared(metric, drawn)
        *of_members, of_mean = (metric(truth, value) for value in values)
        scores.append((of_mean, float(np.mean(of_members))))
    known = np.array(scores)[np.isfinite(scores).all(axis=1)]
    if not len(known):
        return 0.0
    of_mean, of_one = known.mean(axis=0)
    perfect = metric.bounds[1 if metric.greater_is_better else 0]
    if not np.isfinite(perfect) or of_one == perfect:  # such as a metric of the user's own
        return float(of_mean - of_one)
    return float((score - perfect) * ((of_mean - perfect) / (of_one - perfect) - 1))
