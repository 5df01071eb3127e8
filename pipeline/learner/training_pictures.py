"""Draws pictures of a fold: augmented train images, predicted validation images, and the confusion matrix.

Legend: N rows, C targets.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.pixels.dataset import ImageDataset
from pipeline.pixels.pictures import save_confusion, save_grid
from pipeline.records.task import Task

#: Maximum number of images in a picture.
SHOWN = 24


def rows_to_show(number: int) -> np.ndarray:
    """At most SHOWN of ``number`` rows, in random order but the same in every run: (K,) int."""
    return np.random.default_rng(0).permutation(number)[:SHOWN]


def draw_augmented(path: Path, dataset: ImageDataset, labels: Sequence[str]) -> None:
    """Draws augmented train images as the model sees them in its last epoch; labels (N,) by row of the dataset."""
    rows = rows_to_show(len(dataset))
    images = [dataset[len(dataset.transforms) - 1, int(row)] for row in rows]
    save_grid(path, images, [labels[row] for row in rows], 8, "train images after augmentation")


def draw_validation(
    folder: Path, dataset: ImageDataset, labels: Sequence[str], predictions: np.ndarray, task: Task, heading: str
) -> None:
    """Draws validation.png, some images with their predicted and true labels, and confusion.png, counts of all.

    labels (N,) and predictions (N, C) by row of the dataset.
    """
    best = task.best(predictions)
    rows = rows_to_show(len(dataset))
    wrong = [best[row] != labels[row] for row in rows]
    titles = [
        task.describe(predictions[row]) + (f"\nis {labels[row]}" if is_wrong else "")
        for row, is_wrong in zip(rows, wrong, strict=True)
    ]
    images = [dataset[0, int(row)] for row in rows]
    save_grid(folder / "validation.png", images, titles, 8, f"{heading}: validation images as predicted", wrong)
    position = {name: place for place, name in enumerate(task.target_names)}
    counts = np.zeros((len(position), len(position)), int)
    np.add.at(counts, ([position[label] for label in labels], [position[label] for label in best]), 1)
    share = counts.trace() / len(labels)
    save_confusion(
        folder / "confusion.png", counts, task.target_names, f"{heading}: {share:.1%} of {len(labels):,} right"
    )
