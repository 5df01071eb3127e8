"""How predictions become decisions is learnt."""

from __future__ import annotations

import numpy as np
import pandas as pd

from pipeline.tasks.decisions import learn_rule
from pipeline.tasks.ordinal import Ordinal

RNG = np.random.default_rng(0)
GRADES = Ordinal(["0", "1", "2", "3"])


def grades(rows: int) -> tuple[np.ndarray, np.ndarray]:
    labels = RNG.choice(4, rows, p=[0.5, 0.2, 0.2, 0.1])
    scores = -np.abs(np.arange(4) - (labels * 0.6 + RNG.normal(0, 0.7, rows))[:, None])
    probs = np.exp(scores)
    return GRADES.targets(pd.Series(labels.astype(str))), probs / probs.sum(axis=1, keepdims=True)


def test_a_learnt_rule_is_better_than_the_default_on_new_rows() -> None:
    targets, predictions = grades(1500)
    metric = GRADES.metric("quadratic_kappa")
    how, rule = learn_rule(GRADES, metric, targets[:1000], predictions[:1000], np.arange(1000) % 5)
    default = GRADES.score(metric, targets[1000:], predictions[1000:])
    assert how == "cut points of the mean grade"
    assert GRADES.score(metric, targets[1000:], predictions[1000:], rule) > default + 0.03
