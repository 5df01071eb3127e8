"""Divides rows with several labels into folds that have about equal shares of each label."""

from __future__ import annotations

import numpy as np


def iterative_folds(counts: np.ndarray, sizes: np.ndarray, num_folds: int, seed: int) -> np.ndarray:
    """Fold (U,) int of each unit, by iterative stratification (Sechidis, Tsoumakas and Vlahavas, 2011).

    The units of the rarest label are distributed first, each to the fold that lacks most of that label; among such
    folds, to the one that lacks most rows. Units without labels go where rows are missing. A group of several rows goes
    where it reduces the squared lacks most, of all labels and of rows, each as a share of its total.

    counts: (U, C), how often each label occurs in each unit (an image, or a group that stays together)
    sizes: (U,), number of rows of each unit
    """
    rng = np.random.default_rng(seed)
    fold = np.full(len(counts), -1)
    wanted = np.tile(counts.sum(axis=0) / num_folds, (num_folds, 1)).astype(float)  # (folds, C)
    total = np.maximum(counts.sum(axis=0), 1)
    room = np.full(num_folds, sizes.sum() / num_folds)
    order = rng.permutation(len(counts))

    def assign(units: np.ndarray, label: int | None) -> None:
        # Large groups first, as they fit in few places.
        for unit in units[np.argsort(-sizes[units], kind="stable")]:
            if sizes[unit] > 1:
                need = (wanted / total**2) @ counts[unit] + room / sizes.sum() ** 2 * sizes[unit]
            else:
                need = room if label is None else wanted[:, label]
            candidates = np.flatnonzero(need >= need.max() - 1e-12)
            candidates = candidates[room[candidates] >= room[candidates].max() - 1e-9]
            chosen = rng.choice(candidates)
            fold[unit], room[chosen] = chosen, room[chosen] - sizes[unit]
            wanted[chosen] -= counts[unit]

    while True:
        free = order[fold[order] < 0]
        left = (counts[free] > 0).sum(axis=0)
        if not left.any():
            assign(free, None)
            return fold
        rarest = int(np.where(left > 0, left, len(counts) + 1).argmin())
        assign(free[counts[free, rarest] > 0], rarest)
