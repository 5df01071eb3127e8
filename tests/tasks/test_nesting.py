"""What is learnt from out-of-fold predictions never sees the fold that it is scored on."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pipeline.tasks.classification import Classification
from pipeline.tasks.multilabel import Multilabel
from pipeline.tasks.nesting import nested_values, own_values, parts_of
from pipeline.tasks.ordinal import Ordinal
from pipeline.tasks.task import Task

RNG = np.random.default_rng(0)
TAGS = Multilabel(["a", "b", "c"])
GRADES = Ordinal(["0", "1", "2", "3"])
ROWS = np.arange(2000)


def tags(rows: int) -> tuple[np.ndarray, np.ndarray]:
    targets = (RNG.random((rows, 3)) < [0.5, 0.2, 0.1]).astype(np.float32)
    return targets, 1 / (1 + np.exp(-(RNG.normal(0, 1, (rows, 3)) + 2 * targets - 2)))


def grades(rows: int) -> tuple[np.ndarray, np.ndarray]:
    labels = RNG.choice(4, rows, p=[0.5, 0.2, 0.2, 0.1])
    scores = -np.abs(np.arange(4) - (labels * 0.6 + RNG.normal(0, 0.7, rows))[:, None])
    probs = np.exp(scores)
    return GRADES.targets(pd.Series(labels.astype(str))), probs / probs.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(("task", "make", "name"), [(TAGS, tags, "sample_f2"), (GRADES, grades, "quadratic_kappa")])
def test_the_decisions_of_a_fold_do_not_depend_on_its_own_labels(task: Task, make: object, name: str) -> None:
    """Other labels in fold 1 change the decisions of the other folds, but not those of fold 1."""
    targets, predictions = make(400)  # type: ignore[operator]
    parts, metric = np.arange(400) % 4, task.metric(name)
    before = nested_values(task, metric, targets, predictions, parts, ROWS[: len(parts)])
    changed = targets.copy()
    changed[parts == 1] = np.roll(targets[parts == 1], 1, axis=1)
    after = nested_values(task, metric, changed, predictions, parts, ROWS[: len(parts)])
    assert (before[parts == 1] == after[parts == 1]).all()
    assert (before[parts != 1] != after[parts != 1]).any()


def test_the_score_of_noise_is_not_flattered() -> None:
    """Without a signal, rules that are scored on the rows they were learnt from look better than they are."""
    task, metric, nested, own = GRADES, GRADES.metric("quadratic_kappa"), [], []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        columns = len(task.target_names)
        targets = np.eye(columns, dtype=np.float32)[rng.integers(0, columns, 60)]
        predictions = rng.dirichlet(np.ones(columns), 60)
        parts, truth = np.arange(60) % 5, task.truth(targets)
        nested.append(metric(truth, nested_values(task, metric, targets, predictions, parts, ROWS[: len(parts)])))
        best = max(
            task.score(metric, targets, predictions, learner(targets, predictions))
            for learner in task.learners(metric).values()
        )
        own.append(best)
    assert np.mean(own) > np.mean(nested) + 0.05


def test_a_single_fold_is_divided_by_its_groups() -> None:
    units = np.repeat(np.arange(20), 3)
    parts = parts_of(np.zeros(60, int), units)
    assert len(np.unique(parts)) == 5
    assert (pd.Series(parts).groupby(units).nunique() == 1).all()
    folds = np.arange(60) % 3
    assert (parts_of(folds, units) == folds).all()


def test_a_metric_of_probabilities_needs_no_rule() -> None:
    targets, predictions = tags(100)
    metric = TAGS.metric("roc_auc")
    assert (nested_values(TAGS, metric, targets, predictions, np.arange(100) % 5, ROWS[:100]) == predictions).all()


def test_with_two_folds_or_one_a_learnt_rule_is_scored_too() -> None:
    """Then the rows of a fold are divided by units, to choose how to learn."""
    targets, predictions = tags(400)
    predictions = predictions / 3  # the default threshold finds nothing
    metric = TAGS.metric("macro_f1")
    assert TAGS.score(metric, targets, predictions) < 0.1
    for folds in (np.arange(400) % 2, np.zeros(400, int)):
        values = nested_values(TAGS, metric, targets, predictions, folds, ROWS[:400])
        assert metric(targets, values) > 0.5


def test_the_temperature_of_a_fold_does_not_depend_on_its_own_labels() -> None:
    task, rng, parts = Classification(["a", "b", "c"]), np.random.default_rng(1), np.arange(600) % 4
    labels = rng.integers(0, 3, 600)
    predictions = task.chances(4 * (np.eye(3)[labels] + rng.normal(0, 0.8, (600, 3))))
    targets, metric = np.eye(3, dtype=np.float32)[labels], task.metric("log_loss")
    before = nested_values(task, metric, targets, predictions, parts, ROWS[:600])
    changed = np.where((parts == 1)[:, None], np.roll(targets, 1, axis=1), targets)
    after = nested_values(task, metric, changed, predictions, parts, ROWS[:600])
    assert (before[parts == 1] == after[parts == 1]).all() and (before[parts == 1] != predictions[parts == 1]).any()
    assert (before[parts != 1] != after[parts != 1]).any()
    own = own_values(task, metric, targets, predictions, parts, ROWS[:600])
    assert metric(labels, own) <= metric(labels, before) < metric(labels, predictions) - 0.1
