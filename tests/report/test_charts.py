"""Charts are SVG whose text is text, in the colours of the page."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from pipeline.report import charts

HOSTILE = ['<script>alert("1")</script>', "a & b", "日本語"]


def texts(svg: str) -> list[str]:
    """The texts of a chart, which must be well-formed XML."""
    root = ElementTree.fromstring(svg)
    return ["".join(one.itertext()) for one in root.iter("{http://www.w3.org/2000/svg}text")]


def log(epochs: int) -> pd.DataFrame:
    values = np.linspace(1, 0.1, epochs)
    numbers = range(1, epochs + 1)
    return pd.DataFrame({"epoch": numbers, "val_loss": values, "train_loss": values / 2, "val_score": 1 - values})


def test_curves_of_one_and_of_many_epochs() -> None:
    for epochs in (1, 7):
        svg = charts.curves({0: log(epochs), 1: log(epochs + 1)}, "val_loss", "train_loss", "loss", 60)
        assert {
            "epoch (n = 60 images, validated once each)",
            "loss",
            "validation, each of 2 folds",
            "train, augmented",
        } <= {*texts(svg)}
        assert ("var(--blue)" in svg) and ("currentColor" in svg) and charts.BLUE not in svg
    assert "1" in texts(charts.curves({0: log(1)}, "val_loss", "train_loss", "loss", 60))


@pytest.mark.parametrize("number", [3, 62, 1000])
def test_a_confusion_matrix_of_any_number_of_classes(number: int) -> None:
    counts = np.random.default_rng(0).poisson(3, (number, number)) if number < 100 else np.eye(number, dtype=int) * 5
    names = [f"{HOSTILE[place % 3]}{place}" for place in range(number)]
    svg = charts.confusion(counts, names)
    assert "<script" not in svg and len(svg) < 2_000_000
    assert any(f"n = {counts.sum():,}" in text for text in texts(svg))
    assert (str(counts[0, 0]) in texts(svg)) or number > 3


def test_every_chart_is_well_formed_and_says_how_many() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=5000)
    table = pd.DataFrame({
        "low": [0.0, 0.5], "high": [0.5, 1.0], "count": [3, 4], "mean": [0.3, 0.8], "share": [0.5, 1.0]
    })  # fmt: skip
    runs = pd.DataFrame(
        {
            "name": HOSTILE,
            "score": [0.1, 0.2, 0.3],
            "expected": 0.2,
            "low": 0.0,
            "high": 0.5,
            "leaderboard": [None, 0.2, None],
        }
    )
    drawn = {
        "(n = 7)": charts.reliability(table, HOSTILE[0]),
        "all rows 0.5000": charts.by_fold({"fold_scores": [0.4, 0.6], "cv_score": 0.5, "rows": 9}, [0, 1], HOSTILE[1]),
        "(n = 5,000, 2,000 shown)": charts.scatter(truth, truth, HOSTILE[0]),
        "n = 5,000": charts.residuals(truth, truth + 1, "age"),
        "width in pixels (n = 2)": charts.sizes(np.array([8.0, 800]), np.array([9.0, 9])),
        "false": charts.tags(np.array([[3, 1, 2], [0, 5, 1]]), HOSTILE[:2], 9),
        "leaderboard": charts.intervals(runs, "accuracy", "higher", 9),
    }
    for expected, svg in drawn.items():
        assert any(expected in text for text in texts(svg)), expected
        assert "<script" not in svg and ' id="figure' not in svg and "<metadata" not in svg
    assert any(HOSTILE[2] in text for text in texts(drawn["leaderboard"]))


def test_a_class_with_the_name_of_a_colour_keeps_it() -> None:
    svg = charts.confusion(np.eye(2, dtype=int), [charts.BLUE, "b"])
    assert any(text.strip().startswith("#007") for text in texts(svg)) and "var(--blue)" in svg
