"""Computes scores, with the results of scikit-learn's functions.

Legend: N rows, C classes or tags, T numbers; labels (N,) int; probs (N, C); truth and values as in metrics.py.
"""

from __future__ import annotations

import numpy as np

# --- classes ----------------------------------------------------------------------------------------------------


def confusion(labels: np.ndarray, probs: np.ndarray) -> np.ndarray:
    """Number of rows (C, C) of each class, by their most probable class.

    Scores of decisions are computed from it. They are those of scikit-learn, whose functions take 30 times as long for
    some hundred rows: thresholds, weights and intervals take thousands of scores.
    """
    number = probs.shape[1]
    return np.bincount(labels * number + probs.argmax(axis=1), minlength=number**2).reshape(number, number)


def balanced_accuracy(labels: np.ndarray, probs: np.ndarray) -> float:
    """The share of right rows of each class that occurs, averaged over these classes."""
    counts = confusion(labels, probs)
    there = counts.sum(axis=1)
    return float(np.mean(counts.diagonal()[there > 0] / there[there > 0]))


def class_f_beta(labels: np.ndarray, probs: np.ndarray, beta: float = 1, average: str = "macro") -> float:
    """F-beta of the classes that occur or are predicted: their mean ("macro"), or of all rows together ("micro")."""
    counts = confusion(labels, probs)
    hits, found, there = counts.diagonal(), counts.sum(axis=0), counts.sum(axis=1)
    if average == "micro":
        hits, found, there = hits.sum(), found.sum(), there.sum()
    number = np.asarray(beta**2 * there + found, float)
    return float(np.mean((1 + beta**2) * hits[number > 0] / number[number > 0]))


def matthews(labels: np.ndarray, probs: np.ndarray) -> float:
    """Matthews correlation coefficient, for any number of classes (Gorodkin, 2004); 0 if one side does not vary."""
    counts = confusion(labels, probs).astype(float)
    found, there, rows = counts.sum(axis=0), counts.sum(axis=1), counts.sum()
    varies = (rows**2 - found @ found) * (rows**2 - there @ there)
    return float((counts.trace() * rows - found @ there) / np.sqrt(varies)) if varies > 0 else 0.0


def losses_of_rows(labels: np.ndarray, probs: np.ndarray) -> np.ndarray:
    """Negative log likelihood (N,) of the labels, with the probabilities clipped as in scikit-learn."""
    eps = np.finfo(probs.dtype).eps
    return -np.log(np.clip(probs[np.arange(len(labels)), labels], eps, 1 - eps))


def log_loss(labels: np.ndarray, probs: np.ndarray) -> float:
    """Mean negative log likelihood of the clipped probabilities.

    The result is the same to the last bit as that of scikit-learn's log_loss, whose import would make every start a
    second slower.
    """
    return float(np.average(losses_of_rows(labels, probs)))


def balanced_log_loss(labels: np.ndarray, probs: np.ndarray) -> float:
    """The log loss of each class that occurs, averaged over these classes."""
    counts = np.bincount(labels)
    return float(np.average(losses_of_rows(labels, probs), weights=1 / counts[labels]))


def accuracy(labels: np.ndarray, probs: np.ndarray) -> float:
    """Share of the rows whose most probable class is their label."""
    return float(np.average(labels == probs.argmax(axis=1)))


def roc_auc(labels: np.ndarray, probs: np.ndarray) -> float:
    """Area under the ROC curve; for more than two classes, the mean over the classes, each against the rest.

    NaN if a class does not occur. It is searched for by thousands of calls, and scikit-learn's takes 30 times as long.
    """
    truth = np.eye(probs.shape[1])[labels]
    if not truth.any(axis=0).all():
        return float("nan")
    return tag_roc_auc(truth[:, 1:], probs[:, 1:]) if probs.shape[1] == 2 else tag_roc_auc(truth, probs)


def quadratic_kappa(labels: np.ndarray, probs: np.ndarray) -> float:
    """Cohen's kappa with quadratic weights of the distance between the positions of all C classes.

    The arithmetic is that of scikit-learn's cohen_kappa_score with all labels, which takes thirty times as long; cut
    points are learnt by thousands of calls.
    """
    number, counts = probs.shape[1], confusion(labels, probs)
    found, there = counts.sum(axis=0), counts.sum(axis=1)
    expected = np.outer(found, there) / found.sum()
    squares = (np.arange(number)[:, None] - np.arange(number)) ** 2
    if not (squares * expected).any():  # all rows have one class, and are predicted to have it
        return float("nan")
    return float(1 - (squares * counts).sum() / (squares * expected).sum())


def rank_of_label(labels: np.ndarray, probs: np.ndarray) -> np.ndarray:
    """Number (N,) of classes that are guessed before the right one; among equal probabilities, the first goes first."""
    rows = np.arange(len(labels))
    right = probs[rows, labels][:, None]
    is_before = np.arange(probs.shape[1]) < labels[:, None]
    return ((probs > right) | ((probs == right) & is_before)).sum(axis=1)


def top_k_accuracy(labels: np.ndarray, probs: np.ndarray, k: int) -> float:
    """Share of the rows whose label is among the k most probable classes."""
    return float(np.average(rank_of_label(labels, probs) < k))


def map_at_k(labels: np.ndarray, probs: np.ndarray, k: int) -> float:
    """Mean average precision of the k most probable classes: 1 / the place of the right one, 0 if it is missing."""
    rank = rank_of_label(labels, probs)
    return float(np.average(np.where(rank < k, 1 / (rank + 1), 0)))


# --- tags -------------------------------------------------------------------------------------------------------


def f_beta(truth: np.ndarray, values: np.ndarray, beta: float, average: str) -> float:
    """F-beta of the values from 0.5 on, as scikit-learn's ``fbeta_score(..., zero_division=0)``.

    average: "sample" (mean over the rows), "macro" (mean over the tags) or "micro" (of all cells together)
    """
    right, chosen = truth > 0, values >= 0.5
    axis = {"sample": 1, "macro": 0, "micro": None}[average]
    hits, found, there = (right & chosen).sum(axis=axis), chosen.sum(axis=axis), right.sum(axis=axis)
    return float(np.mean((1 + beta**2) * hits / np.maximum(beta**2 * there + found, 1e-12)))


def tag_losses(truth: np.ndarray, probs: np.ndarray) -> np.ndarray:
    """Negative log likelihood (N, C) of each tag of each row."""
    eps = np.finfo(probs.dtype).eps
    clipped = np.clip(probs, eps, 1 - eps)
    return -np.where(truth > 0, np.log(clipped), np.log1p(-clipped))


def tag_log_loss(truth: np.ndarray, probs: np.ndarray) -> float:
    """Mean over the tags of the log loss of each (mean column-wise log loss)."""
    return float(np.mean(tag_losses(truth, probs)))


def tag_roc_auc(truth: np.ndarray, probs: np.ndarray) -> float:
    """Mean over the tags of the area under the ROC curve; tags that all rows have, or none, are left out."""
    from scipy.stats import rankdata

    right = truth > 0
    positive, number = right.sum(axis=0), len(right)
    defined = (positive > 0) & (positive < number)
    if not defined.any():
        return float("nan")
    right, positive = right[:, defined], positive[defined]
    ranks = (rankdata(probs[:, defined], axis=0) * right).sum(axis=0)  # Mann & Whitney (1947)
    return float(np.mean((ranks - positive * (positive + 1) / 2) / (positive * (number - positive))))


def mean_average_precision(truth: np.ndarray, probs: np.ndarray) -> float:
    """Mean over the tags of the average precision; tags that no row has are left out."""
    right = (truth > 0).T
    of_tags = [average_precision(has, scores) for has, scores in zip(right, probs.T, strict=True) if has.any()]
    return float(np.mean(of_tags)) if of_tags else float("nan")


def average_precision(right: np.ndarray, scores: np.ndarray) -> float:
    """The sum of the precisions at each threshold, weighted by the growth of the recall."""
    order = np.argsort(-scores, kind="stable")
    hits, ranked = right[order].cumsum(), scores[order]
    last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)  # the last row of each distinct score
    return float(np.sum(np.diff(hits[last], prepend=0) * hits[last] / (last + 1)) / hits[-1])


def tag_map_at_k(truth: np.ndarray, probs: np.ndarray, k: int) -> float:
    """Mean over the rows of the average precision of the k most probable tags, out of min(k, tags of the row)."""
    order = np.argsort(-probs, axis=1, kind="stable")[:, :k]
    hits = np.take_along_axis(truth > 0, order, axis=1)
    precisions = hits.cumsum(axis=1) / np.arange(1, hits.shape[1] + 1)
    there = np.minimum((truth > 0).sum(axis=1), k)
    return float(np.mean((precisions * hits).sum(axis=1) / np.maximum(there, 1)))


def subset_accuracy(truth: np.ndarray, values: np.ndarray) -> float:
    """Share of the rows whose tags are all right."""
    return float(np.mean(((truth > 0) == (values >= 0.5)).all(axis=1)))


# --- numbers: the mean over the T columns -----------------------------------------------------------------------


def rmse(truth: np.ndarray, values: np.ndarray) -> float:
    """Root mean squared error."""
    return float(np.mean(np.sqrt(np.mean((truth - values) ** 2, axis=0))))


def mae(truth: np.ndarray, values: np.ndarray) -> float:
    """Mean absolute error."""
    return float(np.mean(np.abs(truth - values)))


def rmsle(truth: np.ndarray, values: np.ndarray) -> float:
    """Root mean squared error of log(1 + x); negative predictions count as 0, and the truth must not be negative."""
    return rmse(np.log1p(truth), np.log1p(np.maximum(values, 0)))


def r2(truth: np.ndarray, values: np.ndarray) -> float:
    """Share of the variance that the predictions explain; NaN if the truth does not vary."""
    squared = ((truth - truth.mean(axis=0)) ** 2).sum(axis=0)
    return float(np.mean(1 - ((truth - values) ** 2).sum(axis=0) / np.where(squared > 0, squared, np.nan)))


def spearman(truth: np.ndarray, values: np.ndarray) -> float:
    """Spearman's rank correlation; NaN if one side does not vary."""
    from scipy.stats import rankdata

    sides = [rankdata(side, axis=0) for side in (truth, values)]
    of_truth, of_values = (side - side.mean(axis=0) for side in sides)
    norm = np.sqrt((of_truth**2).sum(axis=0) * (of_values**2).sum(axis=0))
    return float(np.mean((of_truth * of_values).sum(axis=0) / np.where(norm > 0, norm, np.nan)))
