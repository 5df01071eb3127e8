"""Defines the metrics, with the results of scikit-learn's functions, and bootstrap intervals of a score.

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

    function: (labels (N,), probs (N, C)) -> float
    greater_is_better: False if a lower score is better
    bounds: the smallest and the largest possible score
    """

    function: Callable[[np.ndarray, np.ndarray], float]
    greater_is_better: bool
    bounds: tuple[float, float] = (0.0, 1.0)

    def clip(self, value: float) -> float:
        """The value, limited to the bounds of the metric."""
        return float(np.clip(value, *self.bounds))

    def __call__(self, labels: np.ndarray, probs: np.ndarray) -> float:
        """The score; NaN if it is undefined, such as roc_auc if the rows lack a class."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # scikit-learn warns about missing classes and returns NaN
                return float(self.function(labels, probs))
        except ValueError:
            return float("nan")


def sklearn_metric(name: str, **arguments: object) -> Callable[[np.ndarray, np.ndarray], float]:
    """Returns a function of labels and probs that applies ``sklearn.metrics.<name>`` to the most probable classes."""

    def score(labels: np.ndarray, probs: np.ndarray) -> float:
        # Imported here, since the import would make --help of a stage slow.
        import sklearn.metrics

        return getattr(sklearn.metrics, name)(labels, probs.argmax(axis=1), **arguments)

    return score


def log_loss(labels: np.ndarray, probs: np.ndarray) -> float:
    """Mean negative log likelihood of the clipped probabilities.

    The result is the same to the last bit as that of scikit-learn's log_loss, whose import would make every start a
    second slower.
    """
    eps = np.finfo(probs.dtype).eps
    clipped = np.clip(probs[np.arange(len(labels)), labels], eps, 1 - eps)
    return float(np.average(-np.log(clipped)))


def accuracy(labels: np.ndarray, probs: np.ndarray) -> float:
    """Share of the rows whose most probable class is their label."""
    return float(np.average(labels == probs.argmax(axis=1)))


def roc_auc(labels: np.ndarray, probs: np.ndarray) -> float:
    """Area under the ROC curve; for more than two classes, the mean over the classes, each against the rest."""
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


#: Maximum number of rows that ``bootstrap`` and ``averaging_gain`` draw; more would gain little precision.
MAX_DRAWN_ROWS = 50_000


def draws_for(num_rows: int) -> int:
    """Number of bootstrap draws: 1,000, or down to 100 for many rows, whose scores vary less."""
    return int(np.clip(2e7 / max(num_rows, 1), 100, 1000))


def bootstrap(
    metric: Metric, labels: np.ndarray, probs: np.ndarray, units: np.ndarray, size: int, rng: np.random.Generator
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
        scores.append(metric(labels[rows], probs[rows]))
    if drawn == size:
        return np.array(scores)
    score = metric(labels, probs)
    return score + (np.array(scores) - score) * np.sqrt(drawn / size)


def score_interval(
    metric: Metric, labels: np.ndarray, probs: np.ndarray, units: np.ndarray, new_rows: int, seed: int = 0
) -> tuple[float, float]:
    """95 % prediction interval for the score of ``new_rows`` unseen rows, from N scored rows of the same kind.

    It adds two sampling errors: that of the scored rows (bootstrap samples of N rows) and that of the unseen rows
    (bootstrap samples of ``new_rows`` rows). With the first one alone, the interval would be too narrow.

    units: as in ``bootstrap``
    """
    score = metric(labels, probs)
    rng = np.random.default_rng(seed)
    scored = bootstrap(metric, labels, probs, units, len(labels), rng)
    unseen = bootstrap(metric, labels, probs, units, new_rows, rng)
    draws = min(len(scored), len(unseen))
    low, high = np.nanpercentile(scored[:draws] + unseen[:draws] - score, [2.5, 97.5])
    return metric.clip(low), metric.clip(high)


def averaging_gain(metric: Metric, members: list[np.ndarray], member_score: float, seed: int = 0) -> float:
    """Estimates the difference between the score of the mean of several models and that of a single model.

    Each out-of-fold row is predicted by one model, but a test row by the mean of all models. The more the models
    disagree, the more the mean improves the score (Krogh & Vedelsby, 1995). No labels are needed: they are drawn from
    the mean probabilities, with the temperature chosen so that the models have the score ``member_score`` on the drawn
    labels. Returns 0 for a single model, or if a score is undefined.

    members: probabilities (M, C) of each model for the same M rows
    member_score: out-of-fold score, with one model for each row
    """
    if len(members) < 2 or not np.isfinite(member_score):
        return 0.0
    rng = np.random.default_rng(seed)
    if len(members[0]) > MAX_DRAWN_ROWS:
        rows = rng.choice(len(members[0]), MAX_DRAWN_ROWS, replace=False)
        members = [member[rows] for member in members]
    mean = np.mean(members, axis=0).clip(1e-12)
    uniform = rng.random((len(mean), 1))

    def scores(log_temperature: float) -> tuple[float, float]:
        """The mean score of the members, and the score of their average, on labels drawn at this temperature."""
        weights = np.exp(np.log(mean / mean.max(axis=1, keepdims=True)) * np.exp(-log_temperature))
        cumulated = (weights / weights.sum(axis=1, keepdims=True)).cumsum(axis=1)
        labels = (uniform > cumulated[:, :-1]).sum(axis=1)
        return float(np.mean([metric(labels, member) for member in members])), metric(labels, mean)

    # The higher the temperature, the worse the score of the members: find the temperature by bisection.
    low, high = -4.0, 4.0
    for _ in range(12):
        middle = (low + high) / 2
        better = scores(middle)[0] > member_score
        low, high = (middle, high) if better == metric.greater_is_better else (low, middle)
    of_member, of_average = scores((low + high) / 2)
    gain = of_average - of_member
    return gain if np.isfinite(gain) else 0.0
