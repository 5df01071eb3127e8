"""Learns how predictions become decisions.

Legend: N rows, C targets; targets and predictions (N, C); parts (N,) int: the fold of each row.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pipeline.tasks.metrics import Metric
from pipeline.tasks.task import Learner, Rule, Task


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
