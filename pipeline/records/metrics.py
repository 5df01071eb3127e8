"""Metrics by short name, each a scikit-learn function; intervals by bootstrap.

Legend: N rows, C classes; labels (N,) int; probs (N, C) float.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Metric:
    """A score of class probabilities.

    function: (labels (N,), probs (N, C)) -> float. greater_is_better: its direction. bounds: its range.
    """

    function: Callable[[np.ndarray, np.ndarray], float]
    greater_is_better: bool
    bounds: tuple[float, float] = (0.0, 1.0)

    def clip(self, value: float) -> float:
        """The value, or the end of the metric's range that it lies beyond."""
        return float(np.clip(value, *self.bounds))

    def __call__(self, labels: np.ndarray, probs: np.ndarray) -> float:
        """The score, or nan where it is undefined (roc_auc of rows that lack a class)."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # scikit-learn warns of absent classes and answers with nan
                return float(self.function(labels, probs))
        except ValueError:
            return float("nan")


def sklearn_metric(name: str, **arguments: object) -> Callable[[np.ndarray, np.ndarray], float]:
    """A function of sklearn.metrics over the most probable classes."""

    def score(labels: np.ndarray, probs: np.ndarray) -> float:
        # Imported when used: it takes longer than a stage's --help may.
        import sklearn.metrics

        return getattr(sklearn.metrics, name)(labels, probs.argmax(axis=1), **arguments)

    return score


def log_loss(labels: np.ndarray, probs: np.ndarray) -> float:
    """Mean negative log likelihood, probabilities clipped: to the last bit what scikit-learn's log_loss gives, whose
    import takes a second of every start."""
    eps = np.finfo(probs.dtype).eps
    clipped = np.clip(probs[np.arange(len(labels)), labels], eps, 1 - eps)
    return float(np.average(-np.log(clipped)))


def accuracy(labels: np.ndarray, probs: np.ndarray) -> float:
    """Share of the rows whose most probable class is theirs."""
    return float(np.average(labels == probs.argmax(axis=1)))


def roc_auc(labels: np.ndarray, probs: np.ndarray) -> float:
    """Area under the ROC curve; the mean of one-against-rest for more than two classes."""
    from sklearn.metrics import roc_auc_score

    if probs.shape[1] == 2:
        return roc_auc_score(labels, probs[:, 1])
    return roc_auc_score(labels, probs, multi_class="ovr", labels=np.arange(probs.shape[1]))


#: To add a metric, add a line: a function of labels and probabilities, and its direction.
METRICS: dict[str, Metric] = {
    "accuracy": Metric(accuracy, True),
    "balanced_accuracy": Metric(sklearn_metric("balanced_accuracy_score"), True),
    "macro_f1": Metric(sklearn_metric("f1_score", average="macro", zero_division=0), True),
    "matthews": Metric(sklearn_metric("matthews_corrcoef"), True, (-1, 1)),
    "quadratic_kappa": Metric(sklearn_metric("cohen_kappa_score", weights="quadratic"), True, (-1, 1)),
    "log_loss": Metric(log_loss, False, (0, np.inf)),
    "roc_auc": Metric(roc_auc, True),
}


#: Rows that tell a score as closely as anyone wants to know it. Of more, draws are smaller samples.
ENOUGH = 50_000


def draws_for(num_rows: int) -> int:
    """How many bootstrap draws: a thousand, fewer where the rows are so many that each draw is close anyway."""
    return int(np.clip(2e7 / max(num_rows, 1), 100, 1000))


def bootstrap(
    metric: Metric, labels: np.ndarray, probs: np.ndarray, units: np.ndarray, size: int, rng: np.random.Generator
) -> np.ndarray:
    """Scores (draws,) of samples of about ``size`` rows: units of rows drawn with replacement (Efron, 1979).

    units (N,) int from 0: rows of one unit (a patient, a scene) come and go together, since they are no news. A sample
    of more than ENOUGH rows is drawn smaller, and its distance from the score of all rows scaled as the root of the
    sizes (the m out of n bootstrap: Bickel, Götze and van Zwet, 1997).
    """
    num_units, drawn = units.max() + 1, min(size, ENOUGH)
    wanted = max(1, round(drawn * num_units / len(units)))
    scores = []
    for _ in range(draws_for(max(size, len(units)))):
        times = np.bincount(rng.integers(num_units, size=wanted), minlength=num_units)
        rows = np.repeat(np.arange(len(units)), times[units])
        scores.append(metric(labels[rows], probs[rows]))
    if drawn == size:
        return np.array(scores)
    score = metric(labels, probs)
    return score + (np.array(scores) - score) * np.sqrt(drawn / size)


def score_interval(
    metric: Metric, labels: np.ndarray, probs: np.ndarray, units: np.ndarray, new_rows: int, seed: int = 0
) -> tuple[float, float]:
    """95 % prediction interval for the score of ``new_rows`` unseen rows, from scored rows of the same kind.

    Two errors add up: these rows are a sample (drawn again with N rows), and so will the new ones be (drawn
    with ``new_rows``). An interval for these rows alone would be too narrow as a promise about others.
    """
    score = metric(labels, probs)
    rng = np.random.default_rng(seed)
    here = bootstrap(metric, labels, probs, units, len(labels), rng)
    there = bootstrap(metric, labels, probs, units, new_rows, rng)
    draws = min(len(here), len(there))
    low, high = np.nanpercentile(here[:draws] + there[:draws] - score, [2.5, 97.5])
    return metric.clip(low), metric.clip(high)


def averaging_gain(metric: Metric, members: list[np.ndarray], member_score: float, seed: int = 0) -> float:
    """What averaging the members' probabilities (each (M, C)) should add to ``member_score``, that of one alone.

    Out-of-fold rows are scored by one model each, the submission is the mean of all, which is better as far as
    they disagree (Krogh & Vedelsby, 1995). It takes no labels: they are drawn from the averaged probabilities at
    the temperature where the members would score on them what they score out of fold.
    """
    if len(members) < 2 or not np.isfinite(member_score):
        return 0.0
    rng = np.random.default_rng(seed)
    if len(members[0]) > ENOUGH:
        rows = rng.choice(len(members[0]), ENOUGH, replace=False)
        members = [member[rows] for member in members]
    mean = np.mean(members, axis=0).clip(1e-12)
    uniform = rng.random((len(mean), 1))

    def scores(log_temperature: float) -> tuple[float, float]:
        """Scores of a member (the mean over them) and of the average, on labels drawn at this temperature."""
        weights = np.exp(np.log(mean / mean.max(axis=1, keepdims=True)) * np.exp(-log_temperature))
        cumulated = (weights / weights.sum(axis=1, keepdims=True)).cumsum(axis=1)
        labels = (uniform > cumulated[:, :-1]).sum(axis=1)
        return float(np.mean([metric(labels, member) for member in members])), metric(labels, mean)

    # The hotter the labels, the worse the members score on them: bisect for the temperature.
    low, high = -4.0, 4.0
    for _ in range(12):
        middle = (low + high) / 2
        better = scores(middle)[0] > member_score
        low, high = (middle, high) if better == metric.greater_is_better else (low, middle)
    of_member, of_average = scores((low + high) / 2)
    gain = of_average - of_member
    return gain if np.isfinite(gain) else 0.0
