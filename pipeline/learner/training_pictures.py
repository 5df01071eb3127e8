"""Draws pictures of a fold: augmented train images, predicted validation images, and all predictions at a glance.

Legend: N rows, C targets.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.learner.fold_data import FoldData
from pipeline.pixels.pictures import save_confusion, save_grid, save_scatter, save_tags

#: Maximum number of images in a picture.
SHOWN = 24


def draw_augmented(folder: Path, data: FoldData, heading: str) -> None:
    """Draws augmented.png: random train images as the model sees them in its last epoch."""
    dataset, labels = data.train_images, data.train_rows["label"].tolist()
    rows = np.random.default_rng(0).permutation(len(dataset))[:SHOWN]
    images = [dataset[len(dataset.transforms) - 1, int(row)] for row in rows]
    titles = [labels[row] or "(none)" for row in rows]
    save_grid(folder / "augmented.png", images, titles, 8, f"{heading}: train images after augmentation")


def draw_validation(folder: Path, data: FoldData, predictions: np.ndarray, heading: str) -> None:
    """Draws validation.png, the images that cost most with their predicted and true labels, and a picture of all.

    The latter is confusion.png for classes and grades, tags.png for several labels, and scatter.png for numbers.

    predictions: (M, C) by row of the validation images
    """
    task, labels = data.task, data.val_rows["label"].tolist()
    rule = task.default_rule(data.metric)
    rows = np.argsort(-task.costs(data.val_targets, predictions), kind="stable")[:SHOWN]
    titles, wrong = zip(*(task.verdict(predictions[row], labels[row], rule) for row in rows), strict=True)
    images = [data.val_images[0, int(row)] for row in rows]
    save_grid(folder / "validation.png", images, titles, 8, f"{heading}: the validation images that cost most", wrong)
    if task.picture == "scatter":
        score = f"{data.metric.name} {data.metric(data.val_targets, predictions):.4f}"
        names = task.target_names
        save_scatter(folder / "scatter.png", data.val_targets, predictions, names, f"{heading}: {score}")
    elif task.picture == "tags":
        chosen, there = task.decide(predictions, rule) > 0, data.val_targets > 0
        counts = np.stack([(chosen & there).sum(0), (~chosen & there).sum(0), (chosen & ~there).sum(0)], axis=1)
        save_tags(folder / "tags.png", counts, task.target_names, f"{heading}: {len(labels):,} validation images")
    else:
        best = task.best(predictions, rule)
        position = {name: place for place, name in enumerate(task.target_names)}
        counts = np.zeros((len(position), len(position)), int)
        np.add.at(counts, ([position[label] for label in labels], [position[label] for label in best]), 1)
        share = counts.trace() / len(labels)
        heading = f"{heading}: {share:.1%} of {len(labels):,} right"
        save_confusion(folder / "confusion.png", counts, task.target_names, heading)
