"""Finds in predictions what a person asks after a run: numbers and tables, without pictures or text around them.

Legend: N rows, C targets, K members, M test rows; targets and predictions (N, C).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from pipeline.tasks.comparing import improvement
from pipeline.tasks.metrics import Metric
from pipeline.tasks.task import Task

#: Most numbers that are scored again to find what each class costs in the metric itself.
MOST_SCORED = 5e7
#: Number of bins of the reliability diagram.
BINS = 10
#: Probabilities of the predicted class from which on a prediction is confident.
CONFIDENT = (0.9, 0.95, 0.99, 0.999)


def confusion_of(task: Task, labels: pd.Series, decisions: np.ndarray) -> np.ndarray:
    """Number of rows (C, C) by true class (rows) and predicted class (columns)."""
    number = len(task.target_names)
    truth = task.targets(labels).argmax(axis=1)
    return np.bincount(truth * number + decisions.argmax(axis=1), minlength=number**2).reshape(number, number)


def worst_pairs(counts: np.ndarray, names: Sequence[str], most: int = 25) -> pd.DataFrame:
    """The pairs of classes that are confused most often: true, predicted, images, of (images of the true class)."""
    wrong = counts - np.diag(counts.diagonal())
    places = [divmod(int(place), len(names)) for place in np.argsort(-wrong, axis=None, kind="stable")[:most]]
    pairs = [(names[row], names[column], wrong[row, column], counts[row].sum()) for row, column in places]
    return pd.DataFrame([pair for pair in pairs if pair[2]], columns=["true", "predicted", "images", "of"])


def cost_of_parts(
    task: Task, metric: Metric, targets: np.ndarray, values: np.ndarray, parts: Sequence[tuple[Any, Any]]
) -> list[float] | None:
    """How much better the score would be if each part of the values were right; None if that takes too long.

    values: (N, ...), what the metric looks at; parts: an index of the values for each, such as (rows, all columns)
    """
    if not len(values) or values.size * len(parts) > MOST_SCORED:
        return None
    truth = task.compared(metric, task.truth(targets))
    right = task.values(metric, targets.astype(float), task.default_rule(metric))
    before, found = metric(truth, values), []
    for part in parts:
        changed = values.astype(float)
        changed[part] = right[part]
        found.append(improvement(metric, metric(truth, changed), before))
    return found


def of_classes(counts: np.ndarray, names: Sequence[str], costs: Sequence[float]) -> pd.DataFrame:
    """A row for each class that occurs or is predicted, the most expensive first.

    Columns: name, images, precision, recall, f1, cost, often (the class that it is taken for most often, and how often)
    """
    there, found, hits = counts.sum(axis=1), counts.sum(axis=0), counts.diagonal()
    wrong = counts - np.diag(hits)
    often = [f"{names[row.argmax()]} ({row.max():,})" if row.any() else "" for row in wrong]
    return (
        table_of_scores(names, there, found, hits, costs)
        .assign(often=often)[lambda t: (there > 0) | (found > 0)]
        .sort_values("cost", ascending=False, kind="stable")
    )


def of_tags(targets: np.ndarray, chosen: np.ndarray, names: Sequence[str], costs: Sequence[float]) -> pd.DataFrame:
    """As ``of_classes``, for tags, without the last column."""
    there, found, hits = targets.sum(axis=0), chosen.sum(axis=0), (targets * chosen).sum(axis=0)
    return table_of_scores(names, there, found, hits, costs).sort_values("cost", ascending=False, kind="stable")


def counts_of_tags(targets: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """How often each tag was found, missed, and chosen without being there, (C, 3) int."""
    hits = (targets * chosen).sum(axis=0)
    return np.stack([hits, targets.sum(axis=0) - hits, chosen.sum(axis=0) - hits], axis=1).astype(int)


def table_of_scores(
    names: Sequence[str], there: np.ndarray, found: np.ndarray, hits: np.ndarray, costs: Sequence[float]
) -> pd.DataFrame:
    """Precision, recall and F1 by the number of images that are there, are found, and are both; NaN if undefined."""
    with np.errstate(invalid="ignore", divide="ignore"):
        precision, recall, f1 = hits / found, hits / there, 2 * hits / (there + found)
    return pd.DataFrame({
        "name": names, "images": there.astype(int), "precision": precision, "recall": recall, "f1": f1, "cost": costs
    })  # fmt: skip


def of_ranges(task: Task, labels: pd.Series, targets: np.ndarray, predictions: np.ndarray) -> pd.DataFrame:
    """Errors by ranges of the first number: name, images, bias (mean of predicted minus true), mae, rmse."""
    error = predictions[:, 0] - targets[:, 0]
    rows = [
        (name, len(places), error[places].mean(), np.abs(error[places]).mean(), np.sqrt((error[places] ** 2).mean()))
        for name, places in task.members(labels).items()
        if len(places)
    ]
    return pd.DataFrame(rows, columns=["name", "images", "bias", "mae", "rmse"])


def confidence_of(task: Task, targets: np.ndarray, predictions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities that were given, and whether what they were given for is true: (N,) each, or (N * C,) for tags.

    For classes it is the most probable class of each row.
    """
    if task.kind == "multilabel":
        return predictions.ravel(), targets.ravel() > 0
    best = predictions.argmax(axis=1)
    rows = np.arange(len(best))
    return predictions[rows, best], targets[rows, best] > 0


def reliability(confidence: np.ndarray, right: np.ndarray) -> pd.DataFrame:
    """How often predictions are right, by their probability (reliability diagram): low, high, count, mean, share.

    confidence: (N,) in 0..1; right: (N,) bool
    """
    edges = np.linspace(0, 1, BINS + 1)
    bins = np.clip(np.searchsorted(edges, confidence, side="right") - 1, 0, BINS - 1)
    count = np.bincount(bins, minlength=BINS)
    with np.errstate(invalid="ignore"):
        mean = np.bincount(bins, confidence, BINS) / count
        share = np.bincount(bins, right, BINS) / count
    return pd.DataFrame({"low": edges[:-1], "high": edges[1:], "count": count, "mean": mean, "share": share})


def calibration_error(table: pd.DataFrame) -> float:
    """The expected calibration error: the mean difference of probability and share (Naeini et al., 2015)."""
    gap = (table["mean"] - table["share"]).abs().fillna(0)
    return float((gap * table["count"]).sum() / max(1, table["count"].sum()))


def confident(confidence: np.ndarray, right: np.ndarray, of_test: np.ndarray) -> pd.DataFrame:
    """Confident predictions, from several probabilities on, and how many of the test are probably wrong.

    Columns: least (probability), images, wrong, share (wrong), test (images), expected (wrong ones of the test)

    confidence, right: (N,), of the out-of-fold rows; of_test: (M,), probabilities given to test rows
    """
    rows = []
    for least in CONFIDENT:
        there = confidence >= least
        number, wrong, test = int(there.sum()), int((there & ~right).sum()), int((of_test >= least).sum())
        # Laplace's rule of succession: no error in few rows does not mean that there is none.
        rows.append(
            (least, number, wrong, wrong / number if number else np.nan, test, test * (wrong + 1) / (number + 2))
        )
    return pd.DataFrame(rows, columns=["least", "images", "wrong", "share", "test", "expected"])


def disagreement(task: Task, members: np.ndarray) -> np.ndarray:
    """How much the members differ on each test row, (M,): their standard deviation, averaged over the targets.

    For numbers, it is relative to how much each of them varies over the rows.

    members: (K, M, C)
    """
    scale = np.maximum(members.std(axis=(0, 1)), 1e-12) if task.kind == "regression" else 1.0
    return (members.std(axis=0) / scale).mean(axis=1)


def still_improving(logs: dict[int, pd.DataFrame]) -> str:
    """Whether the validation loss was still falling at the end, in a sentence; "" if it cannot be said."""
    whole = [log for log in logs.values() if "val_loss" in log and len(log) >= 4]
    if not whole:
        return ""
    epochs = min(map(len, whole))
    mean = np.mean([log["val_loss"].to_numpy()[:epochs] for log in whole], axis=0)
    part = max(1, epochs // 4)
    last, before, best = mean[-part:].mean(), mean[-2 * part : -part].mean(), int(mean.argmin())
    change = (last - before) / max(abs(before), 1e-12)
    text = f"In the last quarter of the {epochs} epochs the mean validation loss went from {before:.4f} to {last:.4f}"
    if change < -0.02:
        return f"{text}: it was still falling, so more epochs may help."
    if change > 0.02:
        return (
            f"{text}: it was rising again after its lowest value in epoch {best + 1}, so the models overfit; more "
            "augmentation or fewer epochs may help."
        )
    return f"{text}: it has levelled off."


def fold_losses(task: Task, folds: np.ndarray, costs: np.ndarray) -> dict[int, float]:
    """The validation loss of each fold."""
    return {int(fold): float(costs[folds == fold].mean()) for fold in np.unique(folds)}
