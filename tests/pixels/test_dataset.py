"""The order and the draws are functions of (seed, epoch, image)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from pipeline.pixels.augment import train_transforms
from pipeline.pixels.cache import open_pixels, readable_rows
from pipeline.pixels.dataset import EpochBatches, ImageDataset, Loader
from pipeline.records.paths import Paths
from pipeline.records.recipe import load_recipe
from pipeline.records.tables import read_manifest

RECIPE = load_recipe("tiny", ["augment.random_resized_crop.scale=[0.3,1.0]", "augment.color_jitter.p=1"])


def epoch_of(loader: Loader, epoch: int, start: int = 0) -> dict[int, bytes]:
    """Bytes of each augmented image by row."""
    seen: dict[int, bytes] = {}
    for images, numbers in loader.epoch(epoch, start):
        assert images.shape[1:] == (16, 16, 3) and images.dtype.is_floating_point is False
        seen |= {int(n): image.numpy().tobytes() for n, image in zip(numbers, images, strict=True)}
    return seen


def test_draws_differ_by_epoch_and_image_but_not_by_workers_or_start(shapes: Paths, rows: pd.DataFrame) -> None:
    pixels = open_pixels(shapes, rows, RECIPE.cache_side, "train")
    train = rows[rows["split"] == "train"].assign(position=0)  # one picture under sixty ids: only draws differ
    dataset = ImageDataset(pixels, train, train_transforms(RECIPE, ["hflip"]), seed=3)
    alone, helped = (Loader(dataset, EpochBatches(60, 8, seed=3), workers, False) for workers in (0, 2))
    epochs = [epoch_of(alone, epoch) for epoch in (0, 1)]
    assert [epoch_of(helped, epoch) for epoch in (0, 1)] == epochs
    assert len(epochs[0]) == 56  # the short batch is left out
    assert len(set(epochs[0].values()) | set(epochs[1].values())) == 112
    assert epoch_of(alone, 1, start=5) == dict(list(epochs[1].items())[40:])


def test_orders_are_permutations_that_depend_on_seed_and_epoch() -> None:
    def order(seed: int | None, epoch: int) -> list[int]:
        batches = EpochBatches(100, 7, seed, None)
        batches.epoch = epoch
        return [row for batch in batches for _, row in batch]

    assert len(order(0, 0)) == 98 == len(set(order(0, 0)))
    assert order(0, 0) != order(0, 1) != order(1, 1)
    assert order(0, 1) == order(0, 1)
    assert order(None, 5) == list(range(100))


def test_an_alternating_flip_shows_both_sides_of_every_picture_in_turn(shapes: Paths, rows: pd.DataFrame) -> None:
    recipe = load_recipe("tiny", ["alternating_flip=true", "epochs=4"])
    train = rows[rows["split"] == "train"]
    pixels = open_pixels(shapes, rows, recipe.cache_side, "train")
    dataset = ImageDataset(pixels, train, train_transforms(recipe, ["hflip"]), alternating_flip=True)
    first_sides = set()
    for row in range(20):
        epochs = [dataset[epoch, row] for epoch in range(3)]
        np.testing.assert_array_equal(epochs[0], epochs[2])
        np.testing.assert_array_equal(epochs[0][:, ::-1], epochs[1])
        first_sides.add(dataset.is_mirrored(0, row))
    assert first_sides == {True, False}


def test_augmentation_repeated_per_epoch_or_worker(split: Paths) -> None:
    """Eight rows of one picture through two loader processes and two epochs: all sixteen draws differ."""
    rows = readable_rows(read_manifest(split.manifest))
    recipe = load_recipe("tiny", ["augment.random_resized_crop.scale=[0.2,0.9]", "augment.color_jitter.p=1"])
    transforms = train_transforms(recipe, ["hflip"])
    dataset = ImageDataset(open_pixels(split, rows, 24, "train"), rows.head(8).assign(position=3), transforms, seed=0)
    loader = Loader(dataset, EpochBatches(8, 4, seed=0), workers=2, pin=False)
    draws = [image.numpy().tobytes() for epoch in (0, 1) for images, _ in loader.epoch(epoch) for image in images]
    assert len(draws) == len(set(draws)) == 16
