"""Labelled images of one split: their form is checked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.formats.parts import checked_part, class_names, labels_of
from pipeline.system.errors import FoldwiseError

PATH = Path("set.h5")
IMAGES = np.zeros((2, 4, 5, 3), np.uint8)


def test_what_has_the_right_form_is_taken() -> None:
    part = checked_part(PATH, "train", IMAGES, ["a", "b"], first=7)
    assert part.labels == ["a", "b"] and part.first == 7 and part.pixels is IMAGES
    assert checked_part(PATH, "test", IMAGES[..., 0], None).labels is None


@pytest.mark.parametrize(
    ("pixels", "labels", "said"),
    [
        (IMAGES.astype(float), None, "float64 of shape"),
        (IMAGES[..., :2], None, "uint8 of shape"),
        (IMAGES[:0], None, "of shape"),
        (IMAGES, ["a"], "2 train images but 1 labels"),
        (IMAGES, ["a", "../b"], "class name '../b'"),
        (IMAGES, ["a", ".b"], "class name '.b'"),
    ],
)
def test_another_form_is_refused(pixels: np.ndarray, labels: list[str] | None, said: str) -> None:
    with pytest.raises(FoldwiseError, match=said):
        checked_part(PATH, "train", pixels, labels)


def test_labels_are_positions_names_or_numbers() -> None:
    names = class_names([b"cat", "dog"])
    assert labels_of(PATH, "train", np.array([[1, 0]]), names) == ["dog", "cat"]
    assert labels_of(PATH, "train", np.array([1.0, 3.0]), []) == ["1", "3"]
    assert labels_of(PATH, "train", np.array(["x", "y"]), names) == ["x", "y"]
    with pytest.raises(FoldwiseError, match="row 1 has the label 2"):
        labels_of(PATH, "train", np.array([0, 2]), names)
    with pytest.raises(ValueError, match="the same name"):
        class_names(["a", b"a"])
