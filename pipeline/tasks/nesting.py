"""Scores what was learnt from out-of-fold predictions on rows that it was not learnt from.

Legend: N rows, C targets; targets and predictions (N, C); parts (N,) int: the fold of each row.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pipeline.tasks.decisions import learn_rule
from pipeline.tasks.metrics import Metric
from pipeline.tasks.postprocessing import Step, apply_steps, learn_steps
from pipeline.tasks.task import Rule, Task

#: Number of parts of the rows of a single fold, to score a rule that is learnt from them.
PARTS = 5
#: Gives predictions (N, C) by what the rows of a mask (N,) have taught, such as the weights of a blend.
Predictor = Callable[[np.ndarray], np.ndarray]


def parts_of(folds: np.ndarray, units: np.ndarray) -> np.ndarray:
    """The parts (N,) between which rules are learnt and scored: the folds; those of a single fold by its units.

    folds: (N,) int; units: (N,) int from 0, rows that belong together have the same number
    """
    return units % PARTS if len(np.unique(folds)) == 1 else folds


def learn_after(
    task: Task, metric: Metric, targets: np.ndarray, predictions: np.ndarray, parts: np.ndarray, units: np.ndarray
) -> tuple[list[Step], str, Rule]:
    """Everything that is learnt from the predictions of these rows: steps, the way to decide, and the rule for that."""
    steps = learn_steps(task, metric, targets, predictions, parts, units)
    return steps, *learn_rule(task, metric, targets, apply_steps(task, predictions, steps), parts)


def own_values(
    task: Task, metric: Metric, targets: np.ndarray, predictions: np.ndarray, folds: np.ndarray, units: np.ndarray
) -> np.ndarray:
    """As ``nested_values``, but all is learnt from the rows that are scored, so that the score is optimistic."""
    steps, _, rule = learn_after(task, metric, targets, predictions, parts_of(folds, units), units)
    return task.values(metric, apply_steps(task, predictions, steps), rule)


def nested_values(
    task: Task,
    metric: Metric,
    targets: np.ndarray,
    predictions: np.ndarray | Predictor,
    folds: np.ndarray,
    units: np.ndarray,
) -> np.ndarray:
    """What the metric looks at, (N, ...), with everything that is learnt for a row learnt from the other parts alone.

    Steps, ways to decide and rules are also chosen in the other parts alone, so that the score of these values is
    honest.

    predictions: (N, C), or a function that learns them from some rows too
    folds, units: (N,) int, see ``parts_of``
    """
    predicted = predictions if callable(predictions) else lambda rows: predictions
    parts, found = parts_of(folds, units), None
    if len(np.unique(parts)) < 2:
        return task.values(metric, predicted(np.ones(len(parts), bool)), task.default_rule(metric))
    for part in np.unique(parts):
        here = parts == part
        given = predicted(~here)
        inner = np.unique(units[~here], return_inverse=True)[1]
        inner_parts = parts_of(parts[~here], inner)
        steps, _, rule = learn_after(task, metric, targets[~here], given[~here], inner_parts, inner)
        values = task.values(metric, apply_steps(task, given[here], steps), rule)
        found = np.empty((len(parts), *values.shape[1:]), values.dtype) if found is None else found
        found[here] = values
    assert found is not None
    return found
