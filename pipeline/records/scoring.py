"""Scores out-of-fold predictions, of a run or of a blend.

Legend: N rows, C targets.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from pipeline.records.runs import Tables
from pipeline.tasks.averaging import averaging_gain, likely_labels
from pipeline.tasks.intervals import effect_of_size, promised, score_interval
from pipeline.tasks.metrics import Metric
from pipeline.tasks.nesting import Predictor, learn_after, nested_values, parts_of
from pipeline.tasks.postprocessing import apply_steps, steps_of_mean


def units_of(rows: pd.DataFrame) -> np.ndarray:
    """The unit (N,) int of each row: rows of a group are one unit, since they are not independent."""
    return pd.factorize(rows["group"].where(rows["group"] != "", rows["image_id"]))[0]


def truth_and_values(
    rows: pd.DataFrame, tables: Tables, predictions: np.ndarray | Predictor
) -> tuple[np.ndarray, np.ndarray]:
    """What the metric compares: the truth (N, ...), and values (N, C), changed and decided as other folds taught.

    rows: label, group and fold of N rows; predictions (N, C), or how they follow from some rows (``nested_values``)
    """
    task, metric = tables.task, tables.metric
    targets = task.targets(rows["label"])
    folds, units = rows["fold"].to_numpy(), units_of(rows)
    values = nested_values(task, metric, targets, predictions, folds, units)
    return task.compared(metric, task.truth(targets)), values


def summarize(
    rows: pd.DataFrame,
    tables: Tables,
    predictions: np.ndarray,
    members: list[np.ndarray],
    elsewhere: Predictor | None = None,
    luck: float = 0.0,
) -> dict[str, Any]:
    """The score of the out-of-fold rows, how to change predictions and decide, and the score to expect of the test.

    Steps, thresholds and cut points are learnt from all rows for the test images, but each row is scored with those
    that were learnt from other folds.

    rows: image_id, label, group and fold of N rows; predictions (N, C); members: each fold's predictions (M, C) of the
    test rows, an empty list without test images
    elsewhere: of a blend, how predictions follow from the rows that its weights are learnt from
    luck: of the best of several ways to blend, how much its score would change without the luck of having been chosen
    """
    task, metric = tables.task, tables.metric
    targets, units, folds = task.targets(rows["label"]), units_of(rows), rows["fold"].to_numpy()
    steps, how, rule = learn_after(task, metric, targets, predictions, parts_of(folds, units), units)
    truth, values = truth_and_values(rows, tables, elsewhere or predictions)

    by_fold = [metric(truth[of_fold], values[of_fold]) for of_fold in each_fold(rows["fold"])]
    pooled = metric(truth, values)
    new_rows = len(members[0]) if members else len(rows)
    interval = score_interval(metric, truth, values, units, new_rows)
    shift = effect_of_size(metric, truth, values, units, new_rows) + luck
    gain, steps_for_test = 0.0, steps
    if len(members) > 1 and new_rows:
        mean, likely = np.mean(members, axis=0), likely_labels(task, members, targets, predictions)
        steps_for_test = steps_of_mean(task, metric, steps, likely, mean)
        of_members = [task.values(metric, apply_steps(task, member, steps), rule) for member in members]
        of_mean = task.values(metric, apply_steps(task, mean, steps_for_test), rule)
        gain = averaging_gain(task, metric, likely, of_members, of_mean, pooled)
    second = {}
    if task.second_metric:
        other = task.metric(task.second_metric)
        decided = (
            values if metric.decided and other.decided else task.values(other, predictions, task.default_rule(other))
        )
        second = {task.second_metric: other(task.truth(targets), decided)}
    return {
        "cv_score": pooled,
        **second,
        "rows": len(rows),
        "fold_scores": by_fold,
        "fold_mean": float(np.mean(by_fold)),
        "fold_sd": float(np.std(by_fold, ddof=1)) if len(by_fold) > 1 else None,
        "averaging_gain": gain,
        "expected_score": metric.clip(pooled + gain + shift),
        "interval_95": promised(metric, interval, gain, shift),
        "interval_95_of_one": of_one_network(metric, interval, pooled, by_fold, len(rows) / new_rows),
        "interval_rows": new_rows,
        "all_alike": bool((values == values[0]).all()),
        "steps": steps_for_test,
        "steps_of_one": steps,
        "decided_by": how,
        "decided_gain": pooled - task.score(metric, targets, predictions) if how else None,
        "rule": rule,
    }


def of_one_network(
    metric: Metric, interval: tuple[float, float], pooled: float, by_fold: list[float], ratio: float
) -> list[float]:
    """The interval of ``score_interval`` for one network: it also holds how much networks differ from each other.

    The mean of several networks hardly varies with the networks. One does, as the folds show: what their scores vary
    more than the rows of a fold explain.

    pooled: the score of all rows; by_fold: those of the folds
    ratio: number of scored rows / of new rows
    """
    bounds = []
    for bound in interval:
        rows = ((bound - pooled) / 1.96) ** 2  # variance by the scored rows and the new ones
        of_fold = rows / (1 + ratio) * len(by_fold)
        more = max(0.0, float(np.var(by_fold, ddof=1)) - of_fold) if len(by_fold) > 1 else 0.0
        bounds.append(metric.clip(pooled + np.sign(bound - pooled) * 1.96 * np.sqrt(rows + more)))
    return bounds


def each_fold(folds: pd.Series) -> list[np.ndarray]:
    """A mask (N,) bool for each fold number that occurs, in ascending order."""
    return [(folds == fold).to_numpy() for fold in sorted(set(folds))]
