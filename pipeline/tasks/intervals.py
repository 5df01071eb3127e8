"""Computes how far a score may be from that of unseen rows: bootstrap intervals, and the gain of an average.

Legend: N rows, C targets; truth (N, ...) and values (N, C) as in metrics.py; predictions (N, C).
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from pipeline.tasks.metrics import Metric

#: Maximum number of rows that ``bootstrap`` and ``averaging_gain`` draw; more would gain little precision.
MAX_DRAWN_ROWS = 50_000


def draws_for(num_rows: int) -> int:
    """Number of bootstrap draws: 1,000, or down to 100 for many rows, whose scores vary less."""
    return int(np.clip(2e7 / max(num_rows, 1), 100, 1000))


def bootstrap(
    metric: Metric, truth: np.ndarray, values: np.ndarray, units: np.ndarray, size: int, rng: np.random.Generator
) -> np.ndarray:
    """Scores (draws,) of bootstrap samples of about ``size`` rows (Efron, 1979).

    Units of rows are drawn with replacement. If ``size`` is larger than MAX_DRAWN_ROWS, samples of MAX_DRAWN_ROWS rows
    are drawn, and the difference of their scores from the score of all rows is scaled by the square root of
    MAX_DRAWN_ROWS / size (the m out of n bootstrap: Bickel, Götze and van Zwet, 1997).

    units: (N,) int from 0; rows of one unit (a patient, a scene) are drawn together, since they are not independent
    """
    num_units, drawn = units.max() + 1, min(size, MAX_DRAWN_ROWS)
    wanted = max(1, round(drawn * num_units / len(units)))
    scores = []
    for _ in range(draws_for(max(size, len(units)))):
        times = np.bincount(rng.integers(num_units, size=wanted), minlength=num_units)
        rows = np.repeat(np.arange(len(units)), times[units])
        scores.append(metric(truth[rows], values[rows]))
    if drawn == size:
        return np.array(scores)
    score = metric(truth, values)
    return score + (np.array(scores) - score) * np.sqrt(drawn / size)


def score_interval(
    metric: Metric, truth: np.ndarray, values: np.ndarray, units: np.ndarray, new_rows: int, seed: int = 0
) -> tuple[float, float]:
    """95 % prediction interval for the score of ``new_rows`` unseen rows, from N scored rows of the same kind.

    It adds two sampling errors: that of the scored rows (bootstrap samples of N rows) and that of the unseen rows
    (bootstrap samples of ``new_rows`` rows). With the first one alone, the interval would be too narrow.

    units: as in ``bootstrap``
    """
    score = metric(truth, values)
    rng = np.random.default_rng(seed)
    scored = bootstrap(metric, truth, values, units, len(truth), rng)
    unseen = bootstrap(metric, truth, values, units, new_rows, rng)
    draws = min(len(scored), len(unseen))
    low, high = np.nanpercentile(scored[:draws] + unseen[:draws] - score, [2.5, 97.5])
    return metric.clip(low), metric.clip(high)


class Judge(Protocol):
    """What ``averaging_gain`` needs to know of the task (task.py)."""

    def draw(self, mean: np.ndarray, uniform: np.ndarray, log_temperature: float) -> np.ndarray: ...

    def uniform_columns(self, num_targets: int) -> int: ...

    def judge(self, metric: Metric, truth: np.ndarray, predictions: np.ndarray, rule: dict[str, Any]) -> float: ...


def averaging_gain(
    task: Judge,
    metric: Metric,
    members: list[np.ndarray],
    member_score: float,
    rule: dict[str, Any] | None = None,
    seed: int = 0,
) -> float:
    """Estimates the difference between the score of the mean of several models and that of a single model.

    Each out-of-fold row is predicted by one model, but a test row by the mean of all models. The more the models
    disagree, the more the mean improves the score (Krogh & Vedelsby, 1995). No labels are needed: they are drawn from
    the mean prediction, with the temperature chosen so that the models have the score ``member_score`` on the drawn
    labels. Returns 0 for a single model, or if a score is undefined.

    members: predictions (M, C) of each model for the same M rows
    member_score: out-of-fold score, with one model for each row
    rule: how the task decides, if the metric scores decisions
    """
    if len(members) < 2 or not np.isfinite(member_score):
        return 0.0
    rng = np.random.default_rng(seed)
    if len(members[0]) > MAX_DRAWN_ROWS:
        rows = rng.choice(len(members[0]), MAX_DRAWN_ROWS, replace=False)
        members = [member[rows] for member in members]
    mean = np.mean(members, axis=0)
    mean = mean if metric.of == "numbers" else mean.clip(1e-12)
    uniform = rng.random((len(mean), task.uniform_columns(mean.shape[1])))

    def scores(log_temperature: float) -> tuple[float, float]:
        """The mean score of the members, and the score of their average, on labels drawn at this temperature."""
        truth = task.draw(mean, uniform, log_temperature)
        of_members = [task.judge(metric, truth, member, rule or {}) for member in members]
        return float(np.mean(of_members)), task.judge(metric, truth, mean, rule or {})

    # The higher the temperature, the worse the score of the members: find the temperature by bisection.
    low, high = -4.0, 4.0
    for _ in range(12):
        middle = (low + high) / 2
        better = scores(middle)[0] > member_score
        low, high = (middle, high) if better == metric.greater_is_better else (low, middle)
    of_member, of_average = scores((low + high) / 2)
    gain = of_average - of_member
    return gain if np.isfinite(gain) else 0.0
