"""Compares predictions of the same rows: which is better, by how much, and whether that is more than noise.

Legend: N rows, C targets, K predictions; truth (N, ...) and values (N, C) as in metrics.py; units (N,) int as in
intervals.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.tasks.intervals import MAX_DRAWN_ROWS, bootstrap_rows
from pipeline.tasks.metrics import Metric

#: Number of bootstrap samples for a standard error, which is then known to about 5 %.
DRAWS = 200
#: Fewest and most samples in which the best prediction is chosen, and number of rows to score in all of them.
DRAWS_OF_CHOICE, MOST_SCORED = (20, 400), 2e8


@dataclass(frozen=True)
class Difference:
    """How much better the first of two predictions is than the second one.

    gain: difference of the scores, positive if the first one is better, whatever the direction of the metric
    error: its standard error, by the rows and by the seeds
    seed_error: the part of the error that comes from the seeds; None if it is not known
    low, high: 95 % interval of the gain
    """

    gain: float
    error: float
    seed_error: float | None
    low: float
    high: float

    @property
    def is_real(self) -> bool:
        """True if the difference cannot be explained by noise."""
        return self.low > 0 or self.high < 0


def improvement(metric: Metric, score: float, than: float) -> float:
    """How much better a score is than another one: the difference, positive if it is better."""
    return score - than if metric.greater_is_better else than - score


def error_of_gain(metric: Metric, truth: np.ndarray, first: np.ndarray, second: np.ndarray, units: np.ndarray) -> float:
    """Standard error of the difference of two scores on the same rows, by the paired bootstrap.

    If only a few decisions differ, it would be too small. So it is that with one more unit that differs, as in the
    adjusted interval for paired proportions (Agresti & Min, 2005).
    """
    samples = bootstrap_rows(units, len(truth), DRAWS, np.random.default_rng(0))
    gains = np.array([metric(truth[rows], first[rows]) - metric(truth[rows], second[rows]) for rows in samples])
    known = gains[np.isfinite(gains)]
    scale = np.sqrt(min(len(truth), MAX_DRAWN_ROWS) / len(truth))
    if len(known) < 2:
        return float("nan")
    differ = len(np.unique(units[differing(metric, truth, first, second)]))
    return float(known.std(ddof=1) * scale * np.sqrt(1 + 1 / max(differ, 1)))


def differing(metric: Metric, truth: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The rows (N,) bool that one of the two predictions gets more right than the other one does."""
    if not metric.decided:
        return (first != second).reshape(len(first), -1).any(axis=1)
    if metric.of == "classes":
        return (first.argmax(axis=1) == truth) != (second.argmax(axis=1) == truth)
    right = [((values >= 0.5) == (truth > 0)).sum(axis=1) for values in (first, second)]
    return right[0] != right[1]


def is_clearly_better(
    metric: Metric, truth: np.ndarray, first: np.ndarray, second: np.ndarray, units: np.ndarray, errors: float = 2
) -> bool:
    """True if the first prediction scores better than the second one by more than this number of standard errors."""
    gain = improvement(metric, metric(truth, first), metric(truth, second))
    return gain > 0 and gain > errors * error_of_gain(metric, truth, first, second, units)


def compare(
    metric: Metric,
    truth: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    units: np.ndarray,
    seed_variance: float | None = None,
) -> Difference:
    """The difference of two predictions of the same rows, and how sure it is.

    Units of rows are drawn with replacement, for both predictions the same ones. The quantile is that of Student's t
    for the number of units.

    seed_variance: variance of the difference, beyond that of the rows, if the seeds of both change: the sum of
    ``variance_between_seeds`` of both; None if it is not known
    """
    from scipy.stats import t

    number = int(units.max()) + 1
    gain = improvement(metric, metric(truth, first), metric(truth, second))
    seeds = None if seed_variance is None else float(np.sqrt(seed_variance))
    if number < 2:
        return Difference(gain, float("inf"), seeds, float("-inf"), float("inf"))
    by_rows = error_of_gain(metric, truth, first, second, units) * np.sqrt(number / (number - 1))
    error = float(np.hypot(by_rows, seeds or 0))
    far = t.ppf(0.975, number - 1) * error
    return Difference(gain, error, seeds, gain - far, gain + far)


def variance_between_seeds(metric: Metric, truth: np.ndarray, values: Sequence[np.ndarray], units: np.ndarray) -> float:
    """Variance of the score of one training if only its seed changes, from K >= 2 trainings, scored on the same rows.

    Scores of the same rows differ also because the rows are a sample. This part, which ``compare`` finds for each pair,
    is taken off, as in a random-effects model (DerSimonian & Laird, 1986).
    """
    scores = np.array([metric(truth, each) for each in values])
    pairs = [
        error_of_gain(metric, truth, values[place], values[place + 1], units) ** 2 for place in range(len(values) - 1)
    ]
    return float(np.maximum(0.0, scores.var(ddof=1) - np.mean(pairs) / 2))  # NaN if a score is not defined


def corrected_for_choice(metric: Metric, truth: np.ndarray, values: Sequence[np.ndarray], units: np.ndarray) -> float:
    """The score of the best of K predictions, without the luck of having been chosen.

    In each bootstrap sample the best prediction is chosen, and scored on the rows that are not in the sample; the mean
    of these scores is free of the choice (bootstrap bias corrected cross-validation: Tsamardinos, Greasidou and
    Borboudakis, 2018, doi 10.1007/s10994-018-5714-4).
    """
    rng, num_units = np.random.default_rng(0), int(units.max()) + 1
    scores = []
    for _ in range(int(np.clip(MOST_SCORED / (len(truth) * len(values)), *DRAWS_OF_CHOICE))):
        times = np.bincount(rng.integers(num_units, size=num_units), minlength=num_units)
        inside = np.repeat(np.arange(len(units)), times[units])
        outside = np.flatnonzero(times[units] == 0)
        of_sample = np.array([metric(truth[inside], each[inside]) for each in values])
        if not np.isfinite(of_sample).any() or not len(outside):
            continue
        best = int(np.nanargmax(of_sample if metric.greater_is_better else -of_sample))
        scores.append(metric(truth[outside], values[best][outside]))
    known = np.array(scores)[np.isfinite(scores)]
    return float(known.mean()) if len(known) else float("nan")
