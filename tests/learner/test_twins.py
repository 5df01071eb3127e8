"""Near-duplicates are found, and similar images are not taken for them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from sklearn.datasets import load_sample_image

from pipeline.learner.twins import LEAST, SIDE, Twins, agreement, find_twins, grey, least_agreement


def scene(seed: int, height: int = 120, width: int = 150) -> np.ndarray:
    """A picture of random discs and lines on a gradient, with a little noise, uint8 (H, W, 3)."""
    rng = np.random.default_rng(seed)
    image = np.tile(np.linspace(40, 160, width)[None, :, None], (height, 1, 3)).astype(np.uint8)
    for _ in range(12):
        colour = tuple(int(value) for value in rng.integers(0, 255, 3))
        centre = (int(rng.integers(width)), int(rng.integers(height)))
        cv2.circle(image, centre, int(rng.integers(4, 25)), colour, -1)
        cv2.line(image, centre, (int(rng.integers(width)), int(rng.integers(height))), colour, 2)
    return np.clip(image + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8)


def changed(image: np.ndarray, how: str) -> np.ndarray:
    height, width = image.shape[:2]
    if how == "resized":
        return cv2.resize(image, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA)
    if how == "recompressed":
        return np.asarray(cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 40])[1], 1))
    if how == "cropped":
        return image[: round(0.95 * height), round(0.05 * width) :]
    return np.ascontiguousarray(image[:, ::-1])


KINDS = ["resized", "recompressed", "cropped", "mirrored"]


def test_planted_twins_are_found_and_no_others() -> None:
    """40 of 200 pictures have a twin; the features say nothing, so that the thumbnails must find all of them."""
    pictures = [scene(seed) for seed in range(200)]
    twins = [changed(pictures[5 * number], KINDS[number % 4]) for number in range(40)]
    everything = [*pictures, *twins]
    features = np.random.default_rng(0).normal(size=(len(everything), 8)).astype(np.float32)
    found = find_twins(features, everything.__getitem__)
    expected = {(5 * number, 200 + number) for number in range(40)}
    pairs = {(pair.one, pair.other) for pair in found}
    assert len(pairs & expected) >= 39 and not pairs - expected
    assert [pair.agreement for pair in found] == sorted((pair.agreement for pair in found), reverse=True)


def test_pictures_that_share_their_layout_are_no_twins() -> None:
    """The same silhouette everywhere, with other details: as in radiographs."""
    rng = np.random.default_rng(0)
    pictures = []
    for _ in range(30):
        noise = cv2.GaussianBlur(rng.normal(0, 250, (96, 96, 3)), (0, 0), 2)
        image = np.full((96, 96, 3), 30.0)
        cv2.ellipse(image, (48, 48), (30, 42), 0, 0, 360, (200, 200, 200), -1)
        pictures.append(np.clip(image + noise, 0, 255).astype(np.uint8))
    pictures.append(changed(pictures[7], "recompressed"))
    features = np.ones((31, 4), np.float32) + rng.normal(size=(31, 4)).astype(np.float32) * 1e-3
    assert [pair[:2] for pair in find_twins(features, pictures.__getitem__)] == [(7, 30)]


@pytest.mark.parametrize("kind", KINDS[:3])
def test_agreement_of_fine_details(kind: str) -> None:
    one, other = scene(1), scene(2)
    assert agreement(grey(one, 96), grey(changed(one, kind), 96)) > 0.7
    assert agreement(grey(one, 96), grey(other, 96)) < 0.4
    assert agreement(grey(one, 96), np.zeros((96, 96), np.uint8)) == -1


def test_triplets_do_not_hide_other_twins() -> None:
    """Their weakest pair is the best match of neither image, but they are not different."""
    rng = np.random.default_rng(0)
    pairs = [Twins(2 * row, 2 * row + 1, value) for row, value in enumerate(rng.uniform(-1, 0.4, 2000).tolist())]
    triplets = [
        Twins(first + one, first + other, value)
        for first in range(5000, 5045, 3)
        for one, other, value in ((0, 1, 0.97), (0, 2, 0.95), (1, 2, 0.9))
    ]
    assert least_agreement([*pairs, *triplets]) == least_agreement(pairs) == LEAST


def test_few_images() -> None:
    assert find_twins(np.zeros((1, 3), np.float32), lambda row: scene(row)) == []
    assert find_twins(np.zeros((2, 3), np.float32), lambda row: scene(row)) == []


@pytest.mark.parametrize("name", ["china.jpg", "flower.jpg"])
def test_a_cropped_photograph_agrees_as_well_as_a_whole_copy(name: str) -> None:
    """What the alignment moves over the edge does not count."""
    photograph = load_sample_image(name)
    height, width = photograph.shape[:2]
    cropped = photograph[height // 40 : height // 40 + round(0.95 * height), : round(0.95 * width)]
    assert agreement(grey(photograph, SIDE), grey(cropped, SIDE)) > 0.9
