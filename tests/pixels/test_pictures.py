"""Pictures for people: nothing is cut off, and odd names are drawn as text."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.pixels import pictures
from pipeline.pixels.pictures import (
    Bars,
    save_classified,
    save_confusion,
    save_curves,
    save_grid,
    save_scatter,
    save_tags,
    shorten,
    wrapped,
)


def drawn(path: Path) -> np.ndarray:
    """The picture, which must not be blank."""
    picture = cv2.imread(str(path))
    assert picture is not None and picture.std() > 5
    return picture


def test_long_names_keep_both_ends() -> None:
    assert shorten("cat") == "cat" and shorten("x" * 20) == "x" * 20
    assert shorten("abcdefghijklmnopqrstuvwxyz") == "abcdefghi…qrstuvwxyz"


@pytest.mark.parametrize("title", ["$cat$", "Größe\nis klein", "猫"])
def test_a_grid(tmp_path: Path, title: str) -> None:
    images = [np.full((8, 12, 3), value, np.uint8) for value in (0, 90, 180)]
    save_grid(tmp_path / "grid.png", images, [title] * 3, 2, "heading", [True, False, False])
    picture = drawn(tmp_path / "grid.png")
    assert (picture[:, :, 2].astype(int) - picture[:, :, 0] > 80).any()  # the red title of the wrong one


def test_the_other_pictures(tmp_path: Path) -> None:
    names = ["cat", "dog"]
    save_confusion(tmp_path / "confusion.png", np.array([[5, 1], [0, 4]]), names, "heading")
    save_curves(tmp_path / "curves.png", [1, 2], {"loss": {"train": [1, 0.5], "validation": [1, 0.6]}}, "heading")
    image, heat, predictions = np.full((16, 16, 3), 99, np.uint8), np.eye(16), np.array([[0.9, 0.1], [0.7, 0.3]])
    save_classified(tmp_path / "one.png", image, heat, Bars(names, predictions), "heading")
    for name in ("confusion", "curves", "one"):
        drawn(tmp_path / f"{name}.png")


def test_titles_are_wrapped_at_commas_and_else_shortened() -> None:
    assert wrapped("missed: pavement, bare-soil, mobile-home\nfalse: sea") == (
        "missed: pavement,\nbare-soil, mobile-home\nfalse: sea"
    )
    assert wrapped("a_very_long_name_of_a_class (93%)\nis b") == "a_very_lo…of_a_class\n(93%)\nis b"
    assert wrapped(", ".join(["label"] * 40)).count("\n") == 4 and wrapped(", ".join(["label"] * 40)).endswith("…")
    assert wrapped("") == ""
    assert wrapped("Acer circinatum var. rubrum", 14) == "Acer\ncircinatum\nvar. rubrum"


def test_pictures_of_several_labels_and_of_numbers(tmp_path: Path) -> None:
    save_tags(tmp_path / "tags.png", np.array([[5, 1, 2], [0, 3, 0]]), ["sea", "a_very_long_name" * 3], "heading")
    numbers = np.random.default_rng(0).normal(0, 1, (30, 7))
    save_scatter(tmp_path / "scatter.png", numbers, numbers + 0.1, [f"number {n}" for n in range(7)], "heading")
    bars = Bars(["age"], np.array([[-3.0], [12.5]]), np.array([[-5.0, 20]]), "age")
    save_classified(tmp_path / "one.png", np.full((16, 16, 3), 99, np.uint8), None, bars, "heading")
    for name in ("tags", "scatter", "one"):
        drawn(tmp_path / f"{name}.png")


@pytest.mark.parametrize("classes", [62, 1000])
def test_many_classes_are_shown_by_their_most_frequent_mistakes(tmp_path: Path, classes: int) -> None:
    """Two of them have names that are shortened to the same text: both get a bar."""
    names = [f"{'a very long name of a class'}{number:04}" for number in range(classes)]
    names[5], names[7] = "a very long name, and its end", "a very long text, and its end"
    counts = np.diag(np.full(classes, 9))
    counts[5, 1], counts[7, 1] = 4, 3
    figures = []
    original = pictures.new_figure

    def new_figure(size: tuple[float, float]) -> object:
        figures.append(original(size))
        return figures[-1]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(pictures, "new_figure", new_figure)
        save_confusion(tmp_path / "confusion.png", counts, names, "heading")
    picture = drawn(tmp_path / "confusion.png")
    assert picture.shape[1] > 1200 and picture.shape[0] > 600
    bars = figures[0].axes[1]
    assert [text.get_text().strip() for text in bars.texts] == ["4 of 13", "3 of 12"]
    assert len(bars.get_yticklabels()) == 2
