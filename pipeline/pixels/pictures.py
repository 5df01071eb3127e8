"""Saves plots as image files: image grids, classified images, confusion matrices and curves. Needs no display."""

from __future__ import annotations

import math
import textwrap
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipeline.system.files import atomic_path

#: Text and correct, wrong, bars: colours that readers with red-green colour blindness can distinguish.
INK, RED, BLUE = "#222222", "#c0392b", "#2a6f97"


#: Fonts with letters of other scripts, as systems have them.
OTHER_FONTS = (
    "Noto Sans CJK JP", "Noto Sans CJK SC", "WenQuanYi Zen Hei", "Droid Sans Fallback", "Hiragino Sans", "PingFang SC",
    "Yu Gothic", "Microsoft YaHei", "Malgun Gothic", "Noto Sans Devanagari", "Noto Sans Arabic", "Noto Sans Thai",
    "Arial Unicode MS", "Unifont",
)  # fmt: skip
#: Largest number of classes that are named at the axes of a confusion matrix.
NAMED_CLASSES = 25
#: Largest number of cells along a confusion matrix.
MOST_CELLS = 100


def new_figure(size: tuple[float, float]) -> Any:
    """An empty figure of this (width, height) in inches.

    Names in it are never parsed as formulas. Letters that the usual font lacks are drawn in another one of the machine,
    if it has one for them; letters that no font has cause no warning.
    """
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.font_manager import get_font_names

    matplotlib.rcParams["text.parse_math"] = False
    there = set(get_font_names())
    matplotlib.rcParams["font.family"] = ["DejaVu Sans", *(name for name in OTHER_FONTS if name in there)]
    warnings.filterwarnings("ignore", "Glyph .* missing from font")
    return Figure(figsize=size, layout="constrained")


def save_grid(
    path: Path,
    images: Sequence[np.ndarray],
    titles: Sequence[str],
    columns: int,
    heading: str,
    wrong: Sequence[bool] = (),
) -> None:
    """Saves images (H, W, 3) uint8 in a grid, each with a title, in red if it is ``wrong``."""
    rows = math.ceil(len(images) / columns)
    cell = 1.1 if columns > 8 else 1.35  # inches
    titles = [wrapped(title, 14 if columns > 8 else 20) for title in titles]
    lines = 1 + max(title.count("\n") for title in titles)
    figure = new_figure((columns * cell, rows * (cell + 0.06 + 0.16 * lines) + 0.5))
    figure.suptitle(heading, fontsize=11)
    # No ticks, and titles at a fixed height: this halves the time of the layout.
    axes = figure.subplots(rows, columns, squeeze=False, subplot_kw={"xticks": [], "yticks": []})
    for axis in axes.flat:
        axis.set_axis_off()
    marks = [RED if flag else INK for flag in wrong] or [INK] * len(images)
    for axis, image, title, mark in zip(axes.flat, images, titles, marks, strict=False):
        # Small images are shown with sharp pixels, larger ones are smoothed.
        axis.imshow(image, interpolation="nearest" if max(image.shape) < 64 else "antialiased")
        axis.set_title(title, fontsize=8, pad=2, color=mark, y=1)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)


def wrapped(title: str, width: int = 20, most: int = 5) -> str:
    """The title in at most ``most`` lines; long lines continue in the next line, and long words are shortened."""
    lines: list[str] = []
    for part in title.split("\n"):
        room = width + 4 if ", " in part else width
        lines += textwrap.wrap(part, room, break_long_words=False, break_on_hyphens=False) or [""]
    more = [f"{lines[most - 1]} …"] if len(lines) > most else lines[most - 1 : most]
    return "\n".join(shorten(line, width + 6 if ", " in title else width) for line in [*lines[: most - 1], *more])


def shorten(text: str, length: int = 20) -> str:
    """The text; if it is longer than ``length``, its start and its end with … between them."""
    return text if len(text) <= length else f"{text[: length // 2 - 1]}…{text[-(length // 2) :]}"


class Bars(NamedTuple):
    """Predictions to draw as bars.

    names: of the C classes or numbers
    values: (K, C), those of K folds; drawn as dots, and their mean as bars
    ranges: (C, 2), where each bar begins and ends if the values are numbers; None for probabilities
    evidence: what the heat map shows the evidence for
    """

    names: Sequence[str]
    values: np.ndarray
    ranges: np.ndarray | None = None
    evidence: str = ""


def save_classified(path: Path, image: np.ndarray, heat: np.ndarray | None, bars: Bars, heading: str) -> None:
    """Saves one image, its Grad-CAM heat map and its predictions, side by side.

    image: (S, S, 3) uint8, as the network sees it
    heat: (S, S) in 0..1, where the network looks; None for no heat map
    """
    names, values, ranges = bars.names, bars.values, bars.ranges
    panels = 2 if heat is None else 3
    figure = new_figure((3.1 * panels + 0.8, 3.5))
    figure.suptitle(heading, fontsize=11)
    axes = figure.subplots(1, panels, width_ratios=[1] * (panels - 1) + [1.25])
    smooth = "nearest" if max(image.shape) < 64 else "antialiased"
    axes[0].imshow(image, interpolation=smooth)
    axes[0].set_title("input of the models", fontsize=9)
    if heat is not None:
        axes[1].imshow(image.mean(axis=2), cmap="gray", vmin=0, vmax=255, interpolation=smooth)
        axes[1].imshow(heat, cmap="inferno", alpha=0.25 + 0.5 * heat, vmin=0, vmax=1)
        found = "evidence" if heat.max() > 0 else "no evidence"
        axes[1].set_title(f"{found} for {shorten(bars.evidence)} (Grad-CAM)", fontsize=9)
    for axis in axes[:-1]:
        axis.set_axis_off()
    places, mean = np.arange(len(names)), values.mean(axis=0)
    shares = values if ranges is None else (values - ranges[:, 0]) / np.maximum(np.ptp(ranges, axis=1), 1e-12)
    texts = [f"{value:.1%}" if ranges is None else f"{value:.4g}" for value in mean]
    title = "probability" if ranges is None else "prediction, in the range of the train labels"
    axes[-1].barh(places, shares.mean(axis=0), color=BLUE, alpha=0.85)
    for place, text in zip(places, texts, strict=True):
        axes[-1].text(1.03, place, text, va="center", fontsize=9, color=INK)
    if len(values) > 1:
        axes[-1].plot(shares, np.broadcast_to(places, shares.shape), ".", color=INK, markersize=4)
        title += ": mean (bars) and folds (dots)"
    axes[-1].set_title(title, fontsize=9)
    axes[-1].set_yticks(places, [shorten(name) for name in names], fontsize=9)
    axes[-1].set_xlim(0, 1.25)
    axes[-1].set_ylim(max(len(names), 3) - 0.5, -0.5)
    axes[-1].spines["bottom"].set_bounds(0, 1)  # the numbers stand to its right
    axes[-1].set_xticks([0, 0.5, 1] if ranges is None else [0, 1], None if ranges is None else ["lowest", "highest"])
    axes[-1].spines[["top", "right"]].set_visible(False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)


def save_confusion(path: Path, counts: np.ndarray, names: Sequence[str], heading: str) -> None:
    """Saves a confusion matrix; for many classes, beside it the pairs that are confused most often.

    counts: (C, C) int, by true class (rows) and predicted class (columns); the colour is the fraction of the row
    """
    number = len(names)
    few = number <= NAMED_CLASSES
    side = 2.6 + 0.42 * number if few else 7.0
    figure = new_figure((side + 0.6, side) if few else (2 * side, side))
    axes = np.atleast_1d(figure.subplots(1, 1 if few else 2, squeeze=True))
    block = math.ceil(number / MOST_CELLS)  # classes that share a cell
    starts = np.arange(0, number, block)
    blocks = np.add.reduceat(np.add.reduceat(counts, starts, axis=0), starts, axis=1)
    shares = blocks / np.maximum(1, blocks.sum(axis=1, keepdims=True))
    ends = (-0.5, number - 0.5)
    shown = axes[0].imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest", extent=(*ends, *ends[::-1]))
    axes[0].set_xlabel("predicted")
    axes[0].set_ylabel("true")
    figure.colorbar(shown, ax=axes[0], shrink=0.7, label="fraction of the true class")
    if few:
        for row, column in np.argwhere(counts > 0):
            ink = "white" if shares[row, column] > 0.5 else INK
            axes[0].text(column, row, f"{counts[row, column]:,}", ha="center", va="center", fontsize=8, color=ink)
        labels = [shorten(name) for name in names]
        slanted = max(map(len, labels)) > 2
        turned: dict[str, Any] = {"rotation": 45, "ha": "right"} if slanted else {}
        axes[0].set_xticks(range(number), labels, fontsize=9, **turned)
        axes[0].set_yticks(range(number), labels, fontsize=9)
        axes[0].set_title(heading, fontsize=10)
    else:
        figure.suptitle(heading, fontsize=11)
        each = f", {block} in each cell" if block > 1 else ""
        axes[0].set_title(f"{number:,} classes, in the order of their names{each}", fontsize=10)
        draw_pairs(axes[1], counts, names)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)


def draw_pairs(axis: Any, counts: np.ndarray, names: Sequence[str]) -> None:
    """Draws the pairs of classes that are confused most often as bars; counts: (C, C) int as in save_confusion."""
    wrong = counts - np.diag(counts.diagonal())
    rows, columns = np.unravel_index(np.argsort(-wrong, axis=None, kind="stable")[:NAMED_CLASSES], wrong.shape)
    pairs = [(row, column) for row, column in zip(rows, columns, strict=True) if wrong[row, column]]
    places, numbers = range(len(pairs)), [wrong[pair] for pair in pairs]
    axis.barh(places, numbers, color=RED, height=0.7)
    axis.set_yticks(places, [f"{shorten(names[row])} as {shorten(names[column])}" for row, column in pairs], fontsize=9)
    for place, (row, column) in enumerate(pairs):
        text = f" {wrong[row, column]:,} of {counts[row].sum():,}"
        axis.text(wrong[row, column], place, text, va="center", fontsize=8, color=INK)
    axis.set_ylim(max(len(pairs), 5) - 0.5, -0.5)
    axis.margins(x=0.15)
    axis.set_xlabel("validation images")
    axis.set_title("most frequent mistakes, of all images of the true class" if pairs else "no mistakes", fontsize=10)
    axis.spines[["top", "right"]].set_visible(False)


def save_tags(path: Path, counts: np.ndarray, names: Sequence[str], heading: str) -> None:
    """Saves how often each tag was found, missed, and predicted without being there, as bars.

    counts: (C, 3) int: found, missed, false
    """
    height = max(2.5, 1.2 + 0.24 * len(names))
    figure = new_figure((7.5, height))
    axis = figure.subplots()
    places, left = np.arange(len(names)), np.zeros(len(names))
    for column, (label, color) in enumerate((("found", BLUE), ("missed", "#b8c9d6"), ("false", RED))):
        axis.barh(places, counts[:, column], left=left, color=color, label=label, height=0.75)
        left += counts[:, column]
    axis.set_yticks(places, [shorten(name, 32) for name in names], fontsize=9 if len(names) <= 40 else 6)
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.set_xlabel("images")
    axis.set_title(heading, fontsize=10)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(fontsize=8)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)


def save_scatter(path: Path, truth: np.ndarray, values: np.ndarray, names: Sequence[str], heading: str) -> None:
    """Saves the predicted over the true numbers, a panel for each of at most six columns.

    truth, values: (N, T)
    """
    shown = min(6, len(names))
    figure = new_figure((3.6 * min(3, shown) + 0.6, 3.6 * math.ceil(shown / 3) + 0.5))
    figure.suptitle(heading, fontsize=11)
    axes = figure.subplots(math.ceil(shown / 3), min(3, shown), squeeze=False)
    for axis in axes.flat[shown:]:
        axis.set_axis_off()
    for axis, name, of_truth, of_values in zip(axes.flat, names, truth.T, values.T, strict=False):
        ends = min(of_truth.min(), of_values.min()), max(of_truth.max(), of_values.max())
        axis.plot(ends, ends, color=INK, linewidth=0.8, alpha=0.6)
        axis.scatter(of_truth, of_values, s=10, color=BLUE, alpha=0.4, linewidths=0)
        axis.set_xlabel(f"true {shorten(name)}")
        axis.set_ylabel("predicted")
        axis.grid(alpha=0.3)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)


def save_curves(
    path: Path, epochs: Sequence[float], panels: dict[str, dict[str, Sequence[float]]], heading: str
) -> None:
    """Saves panels side by side, each with its curves over the epochs.

    panels: {title of a panel: {name of a curve: its values}}
    """
    from matplotlib.ticker import MaxNLocator

    figure = new_figure((4.2 * len(panels), 3.2))
    figure.suptitle(heading, fontsize=11)
    marker = "o" if len(epochs) == 1 else None
    for axis, (name, curves) in zip(np.atleast_1d(figure.subplots(1, len(panels))), panels.items(), strict=True):
        for label, values in curves.items():
            axis.plot(epochs, values, label=label, marker=marker)
        axis.set_xlabel("epoch")
        axis.set_title(name, fontsize=10)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        if len(epochs) == 1:
            axis.set_xticks(epochs)
        axis.grid(alpha=0.3)
        if len(curves) > 1:
            axis.legend(fontsize=8)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)
