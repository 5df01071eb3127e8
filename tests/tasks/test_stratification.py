"""Folds of rows with several labels have about equal shares of each label."""

from __future__ import annotations

import numpy as np
import pandas as pd

from pipeline.tasks.stratification import iterative_folds


def test_each_label_is_spread_evenly_even_if_it_is_rare() -> None:
    rng = np.random.default_rng(0)
    tags = (rng.random((503, 8)) < [0.6, 0.4, 0.3, 0.2, 0.1, 0.05, 0.03, 0.02]).astype(int)
    folds = iterative_folds(tags, np.ones(503, int), 5, seed=1)
    by_fold = np.stack([tags[folds == fold].sum(axis=0) for fold in range(5)])
    assert (by_fold.max(axis=0) - by_fold.min(axis=0) <= np.maximum(2, 0.06 * tags.sum(axis=0))).all()
    assert max(np.bincount(folds)) - min(np.bincount(folds)) <= 6
    # Folds without stratification are less even.
    random = rng.permutation(np.arange(503) % 5)
    spread = np.stack([tags[random == fold].sum(axis=0) for fold in range(5)])
    assert np.ptp(by_fold, axis=0).sum() < np.ptp(spread, axis=0).sum() / 2


def test_groups_count_with_all_their_rows() -> None:
    rng = np.random.default_rng(0)
    group = rng.integers(0, 60, 400)
    tags = (rng.random((400, 4)) < 0.3).astype(int)
    counts = pd.DataFrame(tags).groupby(group).sum().to_numpy()
    folds = iterative_folds(counts, np.bincount(group), 4, seed=0)[group]
    assert (pd.Series(folds).groupby(group).nunique() == 1).all()
    by_fold = np.stack([tags[folds == fold].sum(axis=0) for fold in range(4)])
    assert np.ptp(by_fold, axis=0).max() <= 8 and np.ptp(np.bincount(folds)) <= 32


def test_the_seed_decides() -> None:
    tags = (np.random.default_rng(0).random((100, 3)) < 0.3).astype(int)
    one, two, other = (iterative_folds(tags, np.ones(100, int), 5, seed) for seed in (3, 3, 4))
    assert (one == two).all() and (one != other).any()
