"""Computes how far a score may be from that of unseen rows, by the bootstrap.

Legend: N rows, C targets; truth (N, ...) and values (N, C) as in metrics.py.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pipeline.tasks.metrics import Metric

#: Maximum number of rows that ``bootstrap`` draws; more would gain little precision.
MAX_DRAWN_ROWS = 50_000
#: Number of times that the rows are halved, and largest extrapolation of what halves say (``effect_of_size``).
HALVES, MOST_TIMES = 20, 3.0


def draws_for(num_rows: int) -> int:
    """Number of bootstrap draws: 1,000, or down to 100 for many rows, whose scores vary less."""
    return int(np.clip(2e7 / max(num_rows, 1), 100, 1000))


def bootstrap_rows(units: np.ndarray, size: int, draws: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yields the rows of bootstrap samples of about ``size`` rows, at most MAX_DRAWN_ROWS (Efron, 1979).

    Units of rows are drawn with replacement.

    units: (N,) int from 0; rows of one unit (a patient, a scene) are drawn together, since they are not independent
    """
    num_units = units.max() + 1
    wanted = max(1, round(min(size, MAX_DRAWN_ROWS) * num_units / len(units)))
    for _ in range(draws):
        times = np.bincount(rng.integers(num_units, size=wanted), minlength=num_units)
        yield np.repeat(np.arange(len(units)), times[units])


def bootstrap(
    metric: Metric, truth: np.ndarray, values: np.ndarray, units: np.ndarray, size: int, rng: np.random.Generator
) -> np.ndarray:
    """Scores (draws,) of bootstrap samples of about ``size`` rows.

    If ``size`` is larger than MAX_DRAWN_ROWS, the difference of the scores from the score of all rows is scaled by the
    square root of MAX_DRAWN_ROWS / size (the m out of n bootstrap: Bickel, Götze and van Zwet, 1997).

    units: as in ``bootstrap_rows``
    """
    draws = draws_for(max(size, len(units)))
    scores = np.array([metric(truth[rows], values[rows]) for rows in bootstrap_rows(units, size, draws, rng)])
    if size <= MAX_DRAWN_ROWS:
        return scores
    score = metric(truth, values)
    return score + (scores - score) * np.sqrt(MAX_DRAWN_ROWS / size)


def with_possible_rows(
    metric: Metric, truth: np.ndarray, values: np.ndarray, units: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The rows with two more units: copies of the least certain unit, once all right, and once with errors.

    Without them, 60 right rows of 60 would promise a score of exactly 1. This is the idea of adding a success and a
    failure to the counts of a proportion (Agresti & Coull, 1998), for any metric of classes or tags. The rows of
    numbers stay as they are.
    """
    if metric.of == "numbers":
        return truth, values, units
    top = values.argmax(axis=1)
    if metric.of == "classes":
        ordered = np.sort(values, axis=1)
        margin = ordered[:, -1] - ordered[:, -2] if values.shape[1] > 1 else np.ones(len(values))
    else:
        margin = np.abs(values - 0.5).min(axis=1)
    chosen = np.bincount(units, margin) / np.bincount(units)
    rows = np.flatnonzero(units == chosen.argmin())
    copies = values[rows]
    if metric.of == "classes":
        right = top[rows]
        frequency = np.bincount(truth, minlength=values.shape[1]) / len(truth)
        others = copies + 1e-9 * frequency
        others[np.arange(len(rows)), right] = -np.inf
        wrong = others.argmax(axis=1)
    else:
        right = (copies >= 0.5).astype(truth.dtype)
        wrong = right.copy()
        least = np.abs(copies - 0.5).argmin(axis=1)
        wrong[np.arange(len(rows)), least] = 1 - wrong[np.arange(len(rows)), least]
    more = np.repeat(np.arange(2) + units.max() + 1, len(rows))
    return np.concatenate([truth, right, wrong]), np.concatenate([values, copies, copies]), np.append(units, more)


def score_interval(
    metric: Metric, truth: np.ndarray, values: np.ndarray, units: np.ndarray, new_rows: int, seed: int = 0
) -> tuple[float, float]:
    """95 % prediction interval for the score of ``new_rows`` unseen rows, from N scored rows of the same kind.

    It adds two sampling errors: that of the scored rows (bootstrap samples of N rows) and that of the unseen rows
    (bootstrap samples of ``new_rows`` rows). With the first one alone, the interval would be too narrow. With few
    units it is widened as Student's t is (the expanded percentile interval: Hesterberg, 2015).

    units: as in ``bootstrap``
    """
    from scipy.stats import norm, t

    number = units.max() + 1
    if number < 2:
        return metric.clip(-np.inf), metric.clip(np.inf)
    truth, values, units = with_possible_rows(metric, truth, values, units)
    score = metric(truth, values)
    rng = np.random.default_rng(seed)
    scored = bootstrap(metric, truth, values, units, len(truth), rng)
    unseen = bootstrap(metric, truth, values, units, new_rows, rng)
    draws = min(len(scored), len(unseen))
    if not np.isfinite(scored[:draws] + unseen[:draws]).any():
        return float("nan"), float("nan")
    tail = 100 * norm.cdf(-np.sqrt(number / (number - 1)) * t.ppf(0.975, number - 1))
    low, high = np.nanpercentile(scored[:draws] + unseen[:draws] - score, [tail, 100 - tail])
    return metric.clip(low), metric.clip(high)


def effect_of_size(
    metric: Metric, truth: np.ndarray, values: np.ndarray, units: np.ndarray, new_rows: int, seed: int = 0
) -> float:
    """How much a score changes on average because ``new_rows`` rows are scored instead of N.

    A score that is no mean over rows, such as the mean average precision, is biased by about c / N for some c, which
    is estimated from random halves of the rows, as in Quenouille's method (1956). It is 0 for means over rows.
    """
    number, rng = units.max() + 1, np.random.default_rng(seed)
    if number < 4:
        return 0.0
    whole, halves = metric(truth, values), []
    for _ in range(HALVES):
        first = rng.permutation(number) < number // 2
        halves += [metric(truth[rows], values[rows]) for rows in (first[units], ~first[units])]
    known = np.array(halves)[np.isfinite(halves)]
    if len(known) < HALVES or not np.isfinite(whole):
        return 0.0
    return float((known.mean() - whole) * np.clip(len(truth) / max(new_rows, 1) - 1, -1, MOST_TIMES))


def promised(metric: Metric, interval: tuple[float, float], gain: float, shift: float) -> list[float]:
    """The interval for an averaged prediction: gain and shift are added; the gain may be half or 1.5 times as large.

    A bound that is the smallest or largest possible score stays.
    """
    low, high = interval
    least, most = metric.bounds
    down, up = sorted([0.5 * gain, 1.5 * gain])
    return [
        low if low == least else metric.clip(low + down + shift),
        high if high == most else metric.clip(high + up + shift),
    ]
