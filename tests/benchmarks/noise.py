"""Simulates runs that differ by noise alone, or by a planted gain, and counts how often the tools say so.

    python -m tests.benchmarks.noise                  # the long form, minutes on two cores
    python -m tests.benchmarks.noise --repeats 20

A run is a network: it sees the signal of the images through noise of its own, which no other run has. So runs with the
same amount of noise are equally good, whatever their scores on the rows that happen to be there.
"""

from __future__ import annotations

import argparse
from typing import NamedTuple

import numpy as np

from pipeline.tasks.classification import Classification
from pipeline.tasks.comparing import Difference, compare, corrected_for_choice, error_of_gain
from pipeline.tasks.metrics import Metric

#: Number of unseen rows on which the true score of a run is measured.
UNSEEN = 20_000


class Runs(NamedTuple):
    """Runs of one simulated competition.

    labels: (N + UNSEEN,) int
    values: predictions (N + UNSEEN, 2) of each run
    rows: N, the number of out-of-fold rows
    """

    labels: np.ndarray
    values: list[np.ndarray]
    rows: int

    def score(self, metric: Metric, run: int, unseen: bool = False) -> float:
        """The score of a run, out of fold or on unseen rows."""
        here = slice(self.rows, None) if unseen else slice(0, self.rows)
        return metric(self.labels[here], self.values[run][here])

    def seen(self) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
        """Labels, predictions and units of the out-of-fold rows."""
        return self.labels[: self.rows], [each[: self.rows] for each in self.values], np.arange(self.rows)


def simulate(rng: np.random.Generator, rows: int, noises: list[float], unseen: int = UNSEEN) -> Runs:
    """Runs with these standard deviations of their own noise, two classes."""
    total = rows + unseen
    signal = rng.normal(0, 2, total)
    labels = (rng.random(total) < 1 / (1 + np.exp(-signal))).astype(int)
    values = []
    for noise in noises:
        chance = 1 / (1 + np.exp(-(signal + noise * rng.normal(size=total))))
        values.append(np.stack([1 - chance, chance], axis=1))
    return Runs(labels, values, rows)


def error_of_best(metric: Metric, rng: np.random.Generator, rows: int, number: int = 20) -> tuple[float, float, float]:
    """Errors of the best of equally good runs: the corrected score, the naive one, and the standard error of a score.

    Both errors are positive if the score promises too much.
    """
    runs = simulate(rng, rows, [1.5] * number)
    labels, values, units = runs.seen()
    scores = [metric(labels, each) for each in values]
    best = int(np.argmax(scores) if metric.greater_is_better else np.argmin(scores))
    sign = 1 if metric.greater_is_better else -1
    true = runs.score(metric, best, unseen=True)
    corrected = corrected_for_choice(metric, labels, values, units)
    constant = np.full_like(values[best], 0.5)
    error = error_of_gain(metric, labels, values[best], constant, units)
    if metric.name == "accuracy":
        error = float(np.sqrt(scores[best] * (1 - scores[best]) / rows))
    return sign * (corrected - true), sign * (scores[best] - true), error


def compared(metric: Metric, rng: np.random.Generator, rows: int, gain: float) -> Difference:
    """The comparison of a run with one that is better by ``gain`` standard errors of their difference."""
    runs = simulate(rng, rows, [1.5, 1.5], 0)
    labels, (first, second), units = runs.seen()
    if gain:
        error = error_of_gain(metric, labels, first, second, units)
        first = improved(metric, labels, first, second, gain * error)
    return compare(metric, labels, first, second, units)


def improved(metric: Metric, labels: np.ndarray, first: np.ndarray, second: np.ndarray, gain: float) -> np.ndarray:
    """The predictions ``first``, nearer to the labels on random rows, so that on average they gain this much."""
    rng, sign = np.random.default_rng(0), 1 if metric.greater_is_better else -1
    right, order = np.eye(2)[labels], rng.permutation(len(labels))
    low, high = 0, len(labels)
    base = sign * metric(labels, first)
    while high - low > 1:
        middle = (low + high) // 2
        changed = first.copy()
        changed[order[:middle]] = 0.3 * first[order[:middle]] + 0.7 * right[order[:middle]]
        low, high = (middle, high) if sign * metric(labels, changed) - base < gain else (low, middle)
    changed = first.copy()
    changed[order[:high]] = 0.3 * first[order[:high]] + 0.7 * right[order[:high]]
    return changed


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=200)
    repeats = parser.parse_args().repeats
    task = Classification(["cat", "dog"])
    for name in ("accuracy", "log_loss", "roc_auc"):
        of_name = task.metric(name)
        for rows in (300, 1500):
            found = np.array([error_of_best(of_name, np.random.default_rng([1, k]), rows) for k in range(repeats)])
            within = np.mean(np.abs(found[:, 0]) <= 2 * found[:, 2])
            means = found[:, :2].mean(axis=0) / found[:, 2].mean()
            print(f"best of 20, {name}, {rows} rows: mean error / standard error: corrected {means[0]:+.2f}, "
                  f"naive {means[1]:+.2f}; within two standard errors {within:.3f}")  # fmt: skip
            same = [compared(of_name, np.random.default_rng([2, k]), rows, 0) for k in range(repeats)]
            better = [compared(of_name, np.random.default_rng([3, k]), rows, 4) for k in range(repeats)]
            print(
                f"  two seeds called noise: {1 - np.mean([each.is_real for each in same]):.3f}; "
                f"a gain of four standard errors found: {np.mean([each.low > 0 for each in better]):.3f}",
                flush=True,
            )
