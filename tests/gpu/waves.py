"""Draws a competition of made-up photographs, large enough to time the decoding of JPEG files: ``wave``."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

TOML = r"""title   = "Made-up photographs"
metric  = "accuracy"
symmetries = ["hflip"]
recipe  = "resnet18_sprint"
[train]
images  = "train"
pattern = '^(?P<label>[a-d])_(?P<id>\d+)\.jpg$'
[test]
images  = "test"
pattern = '^(?P<id>\d+)\.jpg$'
[folds]
n    = 5
seed = 42
[submission]
columns = ["id", "label"]
value   = "class"
"""


def draw_waves(home: Path, train: int, test: int, side: int) -> None:
    """``train`` and ``test`` images of (side, 4/3 side) pixels in four classes: directions of a wave, in noise."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "competition.toml").write_text(TOML)
    rng = np.random.default_rng(0)
    down, across = np.mgrid[0:side, 0 : side * 4 // 3].astype(np.float32)
    directions = [down, across, down + across, down - across]
    noises = [128 + rng.normal(0, 20, (*down.shape, 3)).astype(np.float32) for _ in range(8)]  # to draw each takes long
    for split, number in (("train", train), ("test", test)):
        folder = home / "raw" / split
        folder.mkdir(parents=True, exist_ok=True)
        for index in range(number):
            wave = 50 * np.sin(directions[index % 4] * (0.12 + 0.05 * rng.random()) + 6 * rng.random())
            image = noises[rng.integers(8)] + rng.normal(0, 25, 3).astype(np.float32) + wave[..., None]
            name = f"{'abcd'[index % 4]}_{index}.jpg" if split == "train" else f"{index}.jpg"
            pixels = np.clip(image, 0, 255).astype(np.uint8)
            cv2.imwrite(str(folder / name), pixels, [cv2.IMWRITE_JPEG_QUALITY, 85])
