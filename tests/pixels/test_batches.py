"""What the model is fed: the cache changes no bit, draws depend on (seed, epoch, image) alone."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pipeline.pixels.augment import eval_transform, seed_transform, train_transform
from pipeline.pixels.cache import open_pixels, readable_rows
from pipeline.pixels.dataset import EpochBatches, ImageDataset, Loader
from pipeline.records.errors import FoldwiseError
from pipeline.records.paths import Paths
from pipeline.records.recipe import Recipe, load_recipe
from pipeline.records.tables import read_manifest
from tests.conftest import Stage, write_image

RECIPE = load_recipe("tiny", ["augment.random_resized_crop.scale=[0.3,1.0]", "augment.color_jitter.p=1"])


@pytest.fixture
def rows(shapes: Paths, stage: Stage) -> pd.DataFrame:
    """Readable rows of pictures of different sizes."""
    rng = np.random.default_rng(0)
    for number in range(1, 12):
        size = (int(rng.integers(9, 70)), int(rng.integers(9, 70)), 3)
        write_image(shapes.raw / "test" / f"{number}.png", rng.integers(0, 255, size, dtype=np.uint8))
    stage("manifest")
    return readable_rows(read_manifest(shapes.manifest))


def test_with_the_cache_or_without_it_the_pixels_are_the_same(
    shapes: Paths, rows: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = open_pixels(shapes, rows, 24, "train")
    monkeypatch.setattr("pipeline.pixels.cache.DISK_SHARE", 0)
    monkeypatch.setattr(Paths, "cache", shapes.home / "elsewhere")
    direct = open_pixels(shapes, rows, 24, "train")
    assert cached.cached is not None and direct.cached is None
    for row in range(len(rows)):
        np.testing.assert_array_equal(cached[row], direct[row])
    assert {min(cached[row].shape[:2]) for row in range(len(rows))} <= set(range(9, 25))


def test_a_cache_is_built_once_and_again_for_other_images(shapes: Paths, rows: pd.DataFrame) -> None:
    first = open_pixels(shapes, rows, 24, "train").cached
    assert open_pixels(shapes, rows, 24, "train").cached == first
    assert open_pixels(shapes, rows, 16, "train").cached != first
    assert open_pixels(shapes, rows.iloc[:-1], 24, "train").cached != first


def test_a_picture_that_changed_after_the_manifest_is_named(shapes: Paths, rows: pd.DataFrame) -> None:
    write_image(shapes.raw / "test" / "3.png", np.zeros((5, 90, 3), np.uint8))
    with pytest.raises(FoldwiseError, match=r"test/3\.png has changed"):
        open_pixels(shapes, rows, 24, "train")


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
    dataset = ImageDataset(pixels, train, train_transform(RECIPE, ["hflip"]), seed=3)
    alone, helped = Loader(dataset, 8, 0, False, shuffle_seed=3), Loader(dataset, 8, 2, False, shuffle_seed=3)
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


def test_two_flips_and_a_transpose_draw_apart() -> None:
    """albumentations' own per-sample seeding gives 2 of the 8 combinations."""
    corner = np.zeros((4, 4, 3), np.uint8)
    corner[0, 1] = 255
    recipe = Recipe(model="x", image_size=4, epochs=1, lr=1)
    transform = train_transform(recipe, ["hflip", "vflip", "transpose"])
    seen = set()
    for image in range(200):
        seed_transform(transform, 0, 0, image)
        seen.add(transform(image=corner)["image"].tobytes())
    assert len(seen) == 8


def test_only_granted_symmetries_are_used() -> None:
    corner = np.zeros((8, 8, 3), np.uint8)
    corner[:4, :4] = 255
    plain = train_transform(Recipe(model="x", image_size=8, epochs=1, lr=1), [])
    declined = train_transform(Recipe(model="x", image_size=8, epochs=1, lr=1, symmetries=False), ["hflip"])
    for transform in (plain, declined):
        for image in range(20):
            seed_transform(transform, 0, 0, image)
            np.testing.assert_array_equal(transform(image=corner)["image"], corner)


def test_resize_policies() -> None:
    wide = np.zeros((40, 80, 3), np.uint8)
    wide[:, 20:60] = 200  # the middle square is all that a full-height centre crop sees
    base = {"model": "x", "image_size": 20, "epochs": 1, "lr": 1}
    cropped = eval_transform(Recipe(**base, resize="crop", crop_share=1.0))(image=wide)["image"]
    assert (cropped == 200).all()
    squashed = eval_transform(Recipe(**base))(image=wide)["image"]
    assert squashed.shape == (20, 20, 3) and (squashed[:, :5] == 0).all() and (squashed[:, 5:15] == 200).all()


@pytest.mark.parametrize(
    "name", ["random_resized_crop", "affine", "color_jitter", "invert", "grayscale", "noise", "erase"]
)
def test_every_augmentation_changes_a_picture_and_keeps_its_form(name: str) -> None:
    image = np.random.default_rng(0).integers(0, 255, (24, 30, 3), dtype=np.uint8)
    arguments = {} if name == "random_resized_crop" else {"p": 1.0}
    recipe = Recipe(model="x", image_size=24, epochs=1, lr=1, augment={name: arguments})
    transform = train_transform(recipe, [])
    plain = eval_transform(recipe)(image=image)["image"]
    for seed in range(3):  # noise may draw a strength near nothing
        seed_transform(transform, seed)
        changed = transform(image=image)["image"]
        assert changed.shape == (24, 24, 3) and changed.dtype == np.uint8
        if (changed != plain).any():
            return
    pytest.fail(f"{name} changes nothing")
