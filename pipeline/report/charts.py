"""Draws the charts of a page as SVG text: sharp at any size, with text that can be selected.

The colours become variables of the page's style sheet, so that a chart is readable on a light and on a dark ground.
They are those of Okabe and Ito (2008), which readers with any colour blindness can distinguish.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from pipeline.pixels.pictures import INK, MOST_CELLS, NAMED_CLASSES, new_figure, shorten

#: The colours in a chart and the variables that replace them.
BLUE, RED, GREY = "#0072b2", "#d55e00", "#8a8f98"
VARIABLES = {INK: "currentColor", BLUE: "var(--blue)", RED: "var(--red)", GREY: "var(--grey)"}
#: Most points of a scatter plot; more are a random sample.
MOST_POINTS = 2000
#: Width and height of a chart in inches.
SIZE = (4.7, 3.3)


def as_svg(figure: Any, title: str) -> str:
    """The figure as an SVG element; title: what it shows, for readers who do not see it."""
    import matplotlib

    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "foldwise"}):
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    text = file.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(
        r' id="(figure|axes|patch|matplotlib|xtick|ytick|line2d|text|legend|[A-Za-z]+Collection)[\w.]*"', "", text
    )
    text = re.sub("<[^>]*>", with_variables, text)  # in tags only: a class may have the name of a colour
    label = title.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    width, height = re.search(r'width="([\d.]+)pt" height="([\d.]+)pt"', text).groups()  # type: ignore[union-attr]
    text = re.sub(r' width="[\d.]+pt" height="[\d.]+pt"', "", text, count=1)
    size = f'width="{float(width) * 4 / 3:.0f}" height="{float(height) * 4 / 3:.0f}"'
    return text.replace("<svg ", f'<svg role="img" aria-label="{label}" {size} ', 1)


def with_variables(tag: re.Match[str]) -> str:
    """A tag with variables in place of the colours."""
    text = tag[0]
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, variable)
    return text


def new_chart(size: tuple[float, float] = SIZE) -> tuple[Any, Any]:
    """A figure with one pair of axes, in the style of the page."""
    figure = new_figure(size)
    axis = figure.subplots()
    style(axis)
    return figure, axis


def style(axis: Any) -> None:
    """The style of all axes: thin lines, small text, no frame."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color(GREY)
    axis.tick_params(colors=INK, labelsize=9, color=GREY)
    axis.grid(color=GREY, alpha=0.25, linewidth=0.6)
    axis.set_axisbelow(True)
    for label in (axis.xaxis.label, axis.yaxis.label, axis.title):
        label.set_color(INK)
        label.set_fontsize(9.5)


def legend(axis: Any, **more: Any) -> None:
    """A legend without a frame."""
    axis.legend(fontsize=8.5, frameon=False, labelcolor=INK, **more)


def legend_above(figure: Any) -> None:
    """A legend of all that the figure shows, above its axes."""
    figure.legend(loc="outside upper center", fontsize=8.5, frameon=False, labelcolor=INK, ncols=2)


def curves(logs: dict[int, pd.DataFrame], column: str, train_column: str, name: str, rows: int) -> str:
    """A value over the epochs: of each fold's validation rows, their mean, and the mean of the train rows.

    column, train_column: of the logs; rows: number of validation rows of all folds together
    """
    from matplotlib.ticker import MaxNLocator

    figure, axis = new_chart()
    epochs = min(map(len, logs.values()))
    marker = "o" if epochs == 1 else None
    for number, log in enumerate(logs.values()):
        label = f"validation, each of {len(logs)} folds" if number == 0 else None
        axis.plot(log["epoch"], log[column], color=BLUE, alpha=0.35, linewidth=1, label=label, marker=marker)
    shared = next(iter(logs.values()))["epoch"][:epochs]
    mean, of_train = (np.mean([log[key][:epochs] for log in logs.values()], axis=0) for key in (column, train_column))
    if len(logs) > 1:
        axis.plot(shared, mean, color=BLUE, linewidth=2, label="validation, mean", marker=marker)
    axis.plot(shared, of_train, color=RED, linewidth=1.5, linestyle="--", label="train, augmented", marker=marker)
    axis.set_xlabel(f"epoch (n = {rows:,} images, validated once each)")
    axis.set_ylabel(name)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    if epochs == 1:
        axis.set_xticks([1])
    legend_above(figure)
    return as_svg(figure, f"{name} by epoch, of all folds")


def confusion(counts: np.ndarray, names: Sequence[str]) -> str:
    """A confusion matrix: numbers for few classes, colours only for many."""
    number = len(names)
    few = number <= NAMED_CLASSES
    side = min(8.0, 2.3 + 0.36 * number) if few else 5.2
    figure = new_figure((side + 0.4, side))
    axis = figure.subplots()
    block = math.ceil(number / MOST_CELLS)
    starts = np.arange(0, number, block)
    blocks = np.add.reduceat(np.add.reduceat(counts, starts, axis=0), starts, axis=1)
    shares = blocks / np.maximum(1, blocks.sum(axis=1, keepdims=True))
    # One rectangle for each cell: an image would be blurred by some browsers.
    place = np.arange(len(starts))
    for row, column in np.argwhere(blocks > 0):
        strength = 0.08 + 0.92 * shares[row, column]
        cell = ((place[column] - 0.5) * block, (place[row] - 0.5) * block)
        axis.add_patch(rectangle(cell, block, BLUE, strength))
        if few:
            ink = "#ffffff" if shares[row, column] > 0.55 else INK
            text = f"{counts[row, column]:,}"
            axis.text(column, row, text, ha="center", va="center", fontsize=8 if len(text) < 5 else 6.5, color=ink)
    axis.set_xlim(-0.5 * block, (len(starts) - 0.5) * block)
    axis.set_ylim((len(starts) - 0.5) * block, -0.5 * block)
    style(axis)
    axis.grid(visible=False)
    axis.set_aspect("equal")
    if few:
        labels = [shorten(name, 16) for name in names]
        is_tight = max(map(len, labels)) * 0.08 > 0.7 * side / number  # inches
        turned: dict[str, Any] = {"rotation": 45, "ha": "right"} if is_tight else {}
        axis.set_xticks(range(number), labels, fontsize=8.5, **turned)
        axis.set_yticks(range(number), labels, fontsize=8.5)
    axis.set_xlabel("predicted class" + ("" if few else ", in the order of their names"))
    axis.set_ylabel(f"true class (n = {counts.sum():,})")
    return as_svg(figure, f"confusion matrix of {number} classes")


def rectangle(corner: tuple[float, float], side: float, colour: str, strength: float) -> Any:
    """A square of a colour that is as opaque as ``strength``."""
    from matplotlib.patches import Rectangle

    return Rectangle(corner, side, side, facecolor=colour, alpha=float(strength), linewidth=0)


def tags(counts: np.ndarray, names: Sequence[str], rows: int) -> str:
    """How often each tag was found, missed, and predicted without being there.

    counts: (C, 3) int in this order; rows: number of images
    """
    figure, axis = new_chart((SIZE[0] * 1.15, 0.9 + 0.21 * len(names)))
    places, left = np.arange(len(names)), np.zeros(len(names))
    for column, (label, colour, strength) in enumerate((("found", BLUE, 1), ("missed", BLUE, 0.35), ("false", RED, 1))):
        axis.barh(places, counts[:, column], left=left, color=colour, alpha=strength, label=label, height=0.75)
        left += counts[:, column]
    axis.set_yticks(places, [shorten(name, 24) for name in names], fontsize=8.5)
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.set_xlabel(f"out-of-fold images (n = {rows:,})")
    legend_above(figure)
    return as_svg(figure, "labels that were found, missed and false")


def reliability(table: pd.DataFrame, of: str) -> str:
    """A reliability diagram with the counts of its bins; of: what the probabilities are given to."""
    figure = new_figure((SIZE[0], SIZE[1] + 0.9))
    axis, below = figure.subplots(2, 1, height_ratios=[3, 1], sharex=True)
    style(axis)
    style(below)
    axis.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--", label="perfect")
    there = table[table["count"] > 0]
    error = np.sqrt(np.maximum(there["share"] * (1 - there["share"]), 0.25 / there["count"]) / there["count"])
    axis.errorbar(
        there["mean"], there["share"], yerr=error, fmt="o-", color=BLUE, ecolor=BLUE, linewidth=1.5, markersize=4,
        elinewidth=1, label="out of fold, ± 1 standard error",
    )  # fmt: skip
    axis.set_ylabel("share that is right")
    axis.set_xlim(0, 1)
    axis.set_ylim(-0.02, 1.02)
    legend(axis, loc="lower right")
    below.bar(table["low"] + 0.05, table["count"], width=0.09, color=BLUE, alpha=0.7)
    below.set_ylabel("number")
    below.set_xlabel(f"probability of {of} (n = {table['count'].sum():,})")
    return as_svg(figure, "reliability diagram")


def by_fold(score: dict[str, Any], folds: Sequence[int], name: str) -> str:
    """The score of each fold as dots, and that of all rows as a line; score: the content of score.json."""
    scores, pooled = score["fold_scores"], score["cv_score"]
    figure, axis = new_chart((SIZE[0], max(1.6, 0.8 + 0.3 * len(scores))))
    places = np.arange(len(scores))
    axis.axvline(pooled, color=GREY, linewidth=1, linestyle="--", label=f"all rows {pooled:.4f}")
    axis.plot(scores, places, "o", color=BLUE, markersize=7)
    axis.set_yticks(places, [f"fold {fold}" for fold in folds])
    axis.set_ylim(len(scores) - 0.5, -0.5)
    axis.margins(x=0.2)
    axis.set_xlabel(f"{name} (n = {score['rows']:,} images)")
    legend_above(figure)
    return as_svg(figure, f"{name} of each fold")


def scatter(truth: np.ndarray, values: np.ndarray, name: str) -> str:
    """Predicted over true numbers, (N,) each."""
    figure, axis = new_chart((SIZE[0], 3.9))
    ends = [min(truth.min(), values.min()), max(truth.max(), values.max())]
    axis.plot(ends, ends, color=GREY, linewidth=1, linestyle="--")
    shown = sample(len(truth))
    axis.scatter(truth[shown], values[shown], s=9, color=BLUE, alpha=0.35, linewidths=0)
    axis.set_xlabel(f"true {shorten(name, 30)} ({said(len(truth), len(shown))})")
    axis.set_ylabel("predicted, out of fold")
    return as_svg(figure, f"predicted over true {name}")


def residuals(truth: np.ndarray, values: np.ndarray, name: str) -> str:
    """Errors over true numbers, (N,) each, with their mean in ranges of as many rows each."""
    figure, axis = new_chart((SIZE[0], 3.9))
    error, shown = values - truth, sample(len(truth))
    axis.axhline(0, color=GREY, linewidth=1, linestyle="--")
    axis.scatter(truth[shown], error[shown], s=9, color=BLUE, alpha=0.25, linewidths=0)
    parts = np.array_split(np.argsort(truth, kind="stable"), max(1, min(10, len(truth) // 10)))
    means = [(truth[part].mean(), error[part].mean(), error[part].std()) for part in parts]
    centres, mean, spread = np.array(means).T
    axis.errorbar(
        centres, mean, yerr=spread, fmt="o-", color=RED, ecolor=RED, markersize=4, linewidth=1.5, elinewidth=1,
        label="mean ± standard deviation",
    )  # fmt: skip
    axis.set_xlabel(f"true {shorten(name, 30)} ({said(len(truth), len(shown))})")
    axis.set_ylabel("predicted − true")
    legend(axis)
    return as_svg(figure, f"errors by true {name}")


def sample(number: int) -> np.ndarray:
    """All positions, or a random sample of MOST_POINTS."""
    return np.random.default_rng(0).permutation(number)[:MOST_POINTS]


def said(number: int, shown: int) -> str:
    """``"n = 5,000, 2,000 shown"``."""
    return f"n = {number:,}" + (f", {shown:,} shown" if shown < number else "")


def sizes(width: np.ndarray, height: np.ndarray) -> str:
    """Sizes of the images in pixels, on logarithmic axes if they vary by more than a factor of ten."""
    from matplotlib.ticker import NullFormatter, StrMethodFormatter

    figure, axis = new_chart()
    shown = sample(len(width))
    axis.scatter(width[shown], height[shown], s=9, color=BLUE, alpha=0.35, linewidths=0)
    for along, values in ((axis.xaxis, width), (axis.yaxis, height)):
        if values.max() > 10 * values.min():
            (axis.set_xscale if along is axis.xaxis else axis.set_yscale)("log")
            along.set_major_formatter(StrMethodFormatter("{x:,g}"))  # not as powers of ten
            along.set_minor_formatter(NullFormatter())
    axis.margins(0.15)
    axis.set_xlabel(f"width in pixels ({said(len(width), len(shown))})")
    axis.set_ylabel("height in pixels")
    return as_svg(figure, "sizes of the images")


def intervals(table: pd.DataFrame, name: str, better: str, rows: int) -> str:
    """The scores of runs with their 95 % intervals on the test images.

    table: name, score, expected, low, high, leaderboard; rows: number of out-of-fold images
    """
    figure, axis = new_chart((SIZE[0] * 1.6, 1.0 + 0.3 * len(table)))
    places = np.arange(len(table))
    axis.hlines(
        places, table["low"], table["high"], color=BLUE, linewidth=2, alpha=0.5, label="95 % interval on the test"
    )
    axis.plot(table["score"], places, "o", color=BLUE, markersize=6, label="out of fold")
    axis.plot(table["expected"], places, "|", color=INK, markersize=11, label="expected on the test")
    if table["leaderboard"].notna().any():
        axis.plot(table["leaderboard"], places, "D", color=RED, markersize=6, label="leaderboard")
    axis.set_yticks(places, [shorten(text, 34) for text in table["name"]], fontsize=8.5)
    axis.set_ylim(len(table) - 0.5, -0.5)
    axis.set_xlabel(f"{name} ({better} is better; n = {rows:,} out-of-fold images)")
    legend_above(figure)
    return as_svg(figure, f"{name} of {len(table)} runs")
