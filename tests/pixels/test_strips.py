"""Very long images."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from PIL import Image

from pipeline.pixels.augment import eval_transforms
from pipeline.pixels.strips import middle_of_strip
from pipeline.records.recipe import Recipe

RECIPE = Recipe(model="resnet18", image_size=64, epochs=1, lr=1e-3, resize="crop", crop_share=0.875)


@pytest.mark.parametrize("shape", [(2, 20_000), (20_000, 3), (21, 999)])
def test_the_centre_of_a_strip_is_cropped_before_it_is_enlarged(shape: tuple[int, int]) -> None:
    strip = np.random.default_rng(0).integers(0, 255, (*shape, 3), dtype=np.uint8)
    tracemalloc.start()
    square = eval_transforms(RECIPE)[0](strip, 0)
    assert tracemalloc.get_traced_memory()[1] < 2e6
    tracemalloc.stop()
    # The reference is Pillow's resize of a generous part, whose centre is that of the strip.
    short, (height, width) = min(shape), shape
    top, left = max(0, height // 2 - 5 * short), max(0, width // 2 - 5 * short)
    part = Image.fromarray(strip[top : height - top, left : width - left])
    scale = round(64 / 0.875) / short
    size = (round(part.width * scale), round(part.height * scale))
    resized = np.asarray(part.resize(size, Image.Resampling.BILINEAR))
    y, x = (resized.shape[0] - 64) // 2, (resized.shape[1] - 64) // 2
    assert np.abs(square.astype(int) - resized[y : y + 64, x : x + 64]).mean() < 12


def test_other_images_stay_as_they_are() -> None:
    image = np.zeros((20, 300, 3), np.uint8)
    assert middle_of_strip(image) is image
    assert middle_of_strip(np.zeros((20, 321, 3), np.uint8)).shape == (20, 81, 3)
