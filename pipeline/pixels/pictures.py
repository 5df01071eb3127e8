"""Pictures for people: a grid of images, and curves of a training. matplotlib without a display."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.records.files import atomic_path


def save_grid(path: Path, images: Sequence[np.ndarray], titles: Sequence[str], columns: int, heading: str) -> None:
    """Saves images (H, W, 3) uint8 in a grid, each below its title."""
    from matplotlib.figure import Figure

    rows = math.ceil(len(images) / columns)
    cell = 1.1 if columns > 8 else 1.35  # inches
    figure = Figure(figsize=(columns * cell, rows * (cell + 0.22) + 0.5), layout="constrained")
    figure.suptitle(heading, fontsize=11)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, image, title in zip(axes.flat, images, titles, strict=False):
        # Small scans are shown as the squares they are, photographs smoothly.
        axis.imshow(image, interpolation="nearest" if max(image.shape) < 64 else "antialiased")
        axis.set_title(shortened(title), fontsize=8, pad=2)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)


def shortened(text: str, length: int = 20) -> str:
    """The text, or its two ends when it is longer than ``length``."""
    return text if len(text) <= length else f"{text[: length // 2 - 1]}…{text[-(length // 2) :]}"


def save_curves(
    path: Path, epochs: Sequence[float], panels: dict[str, dict[str, Sequence[float]]], heading: str
) -> None:
    """Saves one panel per name side by side, each with its named curves over the epochs."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(4.2 * len(panels), 3.2), layout="constrained")
    figure.suptitle(heading, fontsize=11)
    marker = "o" if len(epochs) == 1 else None
    for axis, (name, curves) in zip(np.atleast_1d(figure.subplots(1, len(panels))), panels.items(), strict=True):
        for label, values in curves.items():
            axis.plot(epochs, values, label=label, marker=marker)
        axis.set_xlabel("epoch")
        axis.set_title(name, fontsize=10)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3)
        if len(curves) > 1:
            axis.legend(fontsize=8)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)
