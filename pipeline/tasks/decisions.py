"""Learns how predictions become decisions, and scores what was learnt on rows that it was not learnt from.

Legend: N rows, C targets; targets and predictions (N, C); parts (N,) int: the fold of each row.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pipeline.tasks.metrics import Metric
from pipeline.tasks.task import Learner, Rule, Task

#: Number of parts of the rows of a single fold, to score a rule that is learnt from them.
PARTS = 5


def parts_of(folds: np.ndarray, units: np.ndarray) -> np.ndarray:
    """The parts (N,) between which rules are learnt and scored: the folds; those of a single fold by its units.

    folds: (N,) int; units: (N,) int from 0, rows that belong together have the same number
    """
    return units % PARTS if len(np.unique(folds)) == 1 else folds


def decided_elsewhere(
    task: Task, predictions: np.ndarray, parts: np.ndarray, learn: Callable[[np.ndarray], Rule]
) -> np.ndarray:
    """Decisions (N, C), each by a rule that was learnt from the rows of the other parts.

    learn: mask (N,) of the rows to learn from -> rule
    """
    decided = np.empty_like(predictions)
    for part in np.unique(parts):
        here = parts == part
        decided[here] = task.decide(predictions[here], learn(~here))
    return decided


def learn_rule(
    task: Task, metric: Metric, targets: np.ndarray, predictions: np.ndarray, parts: np.ndarray
) -> tuple[str, Rule]:
    """The best way to learn a rule, and the rule that it learns from all rows.

    The ways are compared by the score of decisions whose rule was learnt from the other parts; a simpler way wins
    unless another one is better. For a metric of probabilities, or with one part, the rule is the default rule.
    """
    learners = task.learners(metric) if metric.decided else {}
    if not learners or len(np.unique(parts)) < 2:
        return "", task.default_rule(metric)
    truth = task.truth(targets)

    def score_of(learner: Learner) -> float:
        decided = decided_elsewhere(task, predictions, parts, lambda rows: learner(targets[rows], predictions[rows]))
        return metric(task.compared(metric, truth), decided)

    best, best_score = next(iter(learners)), float("nan")
    for name, learner in learners.items():
        score = score_of(learner)
        if metric.is_better(score, best_score):
            best, best_score = name, score
    return best, learners[best](targets, predictions)


def nested_values(
    task: Task, metric: Metric, targets: np.ndarray, predictions: np.ndarray, folds: np.ndarray, units: np.ndarray
) -> np.ndarray:
    """What the metric looks at, (N, ...), with the rule of each row learnt from the other parts alone.

    Also how to learn the rule is chosen in the other parts alone, so that the score of these values is honest.

    folds, units: (N,) int, see ``parts_of``
    """
    parts = parts_of(folds, units)
    if not metric.decided or not task.learners(metric) or len(np.unique(parts)) < 2:
        return task.values(metric, predictions, task.default_rule(metric))

    def learn(rows: np.ndarray) -> Rule:
        return learn_rule(task, metric, targets[rows], predictions[rows], parts_of(parts[rows], units[rows]))[1]

    return decided_elsewhere(task, predictions, parts, learn)
