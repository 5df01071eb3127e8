"""Numbers: standardised per fold, clipped, divided into ranges."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline.system.errors import FoldwiseError
from pipeline.tasks.objective import Objective
from pipeline.tasks.regression import Regression, number

TASK = Regression(["age"])


def test_targets() -> None:
    assert TASK.targets(pd.Series(["1.5", "-2e1"])).tolist() == [[1.5], [-20]]
    assert Regression(["w", "h"]).targets(pd.Series(["1 2", "3 4.5"])).tolist() == [[1, 2], [3, 4.5]]
    with pytest.raises(FoldwiseError, match="'old' is not a number"):
        TASK.targets(pd.Series(["3", "old"]))
    with pytest.raises(FoldwiseError, match="'3' is not 2 numbers"):
        Regression(["w", "h"]).targets(pd.Series(["1 2", "3"]))
    assert [number(text) for text in ("1_000", "nan", "inf", "", "1e39", " 7 ")] == [None] * 5 + [7]


def test_predictions_undo_the_scale_of_the_fold_and_stay_in_its_range() -> None:
    targets = np.array([[10.0], [20], [60]], np.float32)
    fitted = TASK.fitted(targets, Objective())
    assert fitted.fitted_to["mean"] == [30]
    logits = torch.tensor([[0.0], [9.0], [-9.0]])
    assert fitted.predictions(logits).flatten().tolist() == pytest.approx([30, 60, 10])
    free = TASK.fitted(targets, Objective(clip=False))
    assert free.predictions(logits).max() > 200
    again = TASK.with_fit(fitted.fitted_to)
    assert torch.equal(again.predictions(logits), fitted.predictions(logits))
    assert TASK.fitted(np.full((3, 1), 7.0, np.float32), Objective()).fitted_to["std"] == [1]


def test_strata_are_ranges_with_as_many_rows_each() -> None:
    labels = pd.Series(np.random.default_rng(0).gamma(2, 10, 1000).astype(str))
    counts = TASK.strata(labels).value_counts()
    assert len(counts) == 20 and counts.min() == counts.max() == 50  # Rice's rule: 2 * 1000 ** (1 / 3)
    by_stratum = labels.astype(float).groupby(TASK.strata(labels))
    assert (by_stratum.max() - by_stratum.min()).median() < 4
    assert TASK.strata(labels.head(8)).nunique() == 1


def test_members_are_values_or_ranges_that_hold_all_rows() -> None:
    few = TASK.members(pd.Series(["1", "2", "1"]))
    assert {name: rows.tolist() for name, rows in few.items()} == {"1": [0, 2], "2": [1]}
    many = TASK.members(pd.Series([str(value) for value in range(100)]))
    assert next(iter(many)) == "0 to <12" and list(many)[-1].endswith(" to 99")
    assert sorted(np.concatenate(list(many.values()))) == list(range(100))


def test_numbers_are_drawn_around_the_predictions() -> None:
    mean = np.linspace(0, 100, 4000)[:, None]
    drawn = TASK.draw(mean, np.random.default_rng(0).random((4000, 1)), np.array([2.0]))
    assert (drawn - mean).std() == pytest.approx(2.0, rel=0.05)
