"""Pictures of a training: what the model was fed, what it makes of validation images, and what it confuses.

Legend: N rows, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.pixels.dataset import ImageDataset
from pipeline.pixels.pictures import save_confusion, save_grid

SHOWN = 24


def some(number: int) -> np.ndarray:
    """Rows to show of this many, the same in every run."""
    return np.random.default_rng(0).permutation(number)[:SHOWN]


def draw_batch(path: Path, dataset: ImageDataset, labels: Sequence[str]) -> None:
    """Augmented train images, as the model sees them in its last epoch; labels (N,) by row of the dataset."""
    rows = some(len(dataset))
    shots = [dataset[len(dataset.transforms) - 1, int(row)] for row in rows]
    save_grid(path, shots, [labels[row] for row in rows], 8, "train images after augmentation")


def draw_judged(
    folder: Path, dataset: ImageDataset, labels: np.ndarray, probs: np.ndarray, names: list[str], heading: str
) -> None:
    """validation.png, some images with their class and what they are taken for, and confusion.png, all in numbers.

    labels (N,) int and probs (N, C) by row of the dataset.
    """
    predicted = probs.argmax(axis=1)
    rows = some(len(dataset))
    titles = [
        f"{names[predicted[row]]} ({probs[row, predicted[row]]:.0%})"
        + ("" if predicted[row] == labels[row] else f"\nis {names[labels[row]]}")
        for row in rows
    ]
    wrong = [bool(predicted[row] != labels[row]) for row in rows]
    share = (predicted == labels).mean()
    shots = [dataset[0, int(row)] for row in rows]
    save_grid(folder / "validation.png", shots, titles, 8, f"{heading}: validation images as predicted", wrong)
    cells = np.bincount(labels * len(names) + predicted, minlength=len(names) ** 2)
    counts = cells.reshape(len(names), len(names))
    save_confusion(folder / "confusion.png", counts, names, f"{heading}: {share:.1%} of {len(labels):,} right")
