"""Learns from which probability on a tag is chosen.

Legend: N rows, C tags; targets (N, C) of 0 and 1; predictions (N, C) probabilities.
"""

from __future__ import annotations

import numpy as np

from pipeline.tasks.metrics import Metric

#: Number of thresholds that are tried, and how often all tags are gone through at most.
CANDIDATES, ROUNDS = 60, 4


def candidates_of(predictions: np.ndarray) -> np.ndarray:
    """Thresholds to try (K,), ascending: quantiles of the predictions, which are dense where the predictions are."""
    return np.unique(np.quantile(predictions, np.linspace(0, 1, CANDIDATES + 2)[1:-1]))


def common_threshold(metric: Metric, targets: np.ndarray, predictions: np.ndarray) -> float:
    """The threshold for all tags with the best score; among equal ones, the middle one."""
    tried = np.unique(np.append(candidates_of(predictions), np.linspace(0.02, 0.98, 49)))
    scores = np.array([metric(targets, (predictions >= threshold).astype(np.float32)) for threshold in tried])
    scores = np.nan_to_num(scores if metric.greater_is_better else -scores, nan=-np.inf)
    best = np.flatnonzero(scores == scores.max())
    return float(tried[best[len(best) // 2]])


def threshold_for_each(metric: Metric, targets: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """A threshold (C,) for each tag, for F-beta, by coordinate ascent from the common one.

    The hits, the chosen and the true cells are counted in the units that the score is the mean over: rows for sample_f,
    one unit for micro_f, and the tag itself for macro_f. A change of one tag then changes only these counts.
    """
    assert metric.beta is not None
    weight, average = metric.beta**2, metric.name.partition("_")[0]
    right = targets > 0
    there = right.sum(axis=1)
    thresholds = np.full(targets.shape[1], common_threshold(metric, targets, predictions))
    chosen = predictions >= thresholds
    hits, found = (chosen & right).sum(axis=1), chosen.sum(axis=1)  # (N,)

    def score(hits: np.ndarray, found: np.ndarray, there: np.ndarray) -> np.ndarray:
        """F-beta (K,), the mean over units, of counts (K, units)."""
        return ((1 + weight) * hits / np.maximum(weight * there + found, 1e-12)).mean(axis=1)

    for _ in range(ROUNDS):
        before = thresholds.copy()
        for tag, has in enumerate(right.T):
            tried = np.unique(np.append(candidates_of(predictions[:, tag]), thresholds[tag]))
            now = predictions[:, tag] >= tried[:, None]  # (K, N)
            hits, found = hits - (chosen[:, tag] & has), found - chosen[:, tag]  # those of the other tags
            if average == "sample":
                scores = score(hits + (now & has), found + now, there)
            else:
                hits_now, found_now = (now & has).sum(axis=1, keepdims=True), now.sum(axis=1, keepdims=True)
                if average == "micro":
                    scores = score(hits.sum() + hits_now, found.sum() + found_now, there.sum())
                else:
                    scores = score(hits_now, found_now, has.sum())
            best = np.flatnonzero(scores >= scores.max() - 1e-12)
            thresholds[tag] = tried[best[len(best) // 2]]
            chosen[:, tag] = predictions[:, tag] >= thresholds[tag]
            hits, found = hits + (chosen[:, tag] & has), found + chosen[:, tag]
        if (before == thresholds).all():
            break
    return thresholds
