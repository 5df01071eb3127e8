"""Augmentations, symmetries and resize policies."""

from __future__ import annotations

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from torchvision.transforms import v2

from pipeline.pixels.augment import (
    Augmenter,
    CropAndTurn,
    eval_transforms,
    random_key,
    train_transform,
    train_transforms,
)
from pipeline.pixels.cache import open_pixels
from pipeline.pixels.dataset import EpochBatches, ImageDataset, Loader
from pipeline.pixels.preprocessing import IMAGENET
from pipeline.records.paths import Paths
from pipeline.records.recipe import Recipe, load_recipe

RECIPE = load_recipe("tiny", ["augment.random_resized_crop.scale=[0.3,1.0]", "augment.color_jitter.p=1"])


def test_two_flips_and_a_transpose_draw_apart() -> None:
    """albumentations' own per-sample seeding gives 2 of the 8 combinations."""
    corner = np.zeros((4, 4, 3), np.uint8)
    corner[0, 1] = 255
    recipe = Recipe(model="x", image_size=4, epochs=1, lr=1)
    transform = train_transform(recipe, ["hflip", "vflip", "transpose"], (4, 4))
    seen = {transform(corner, random_key(0, 0, image)).tobytes() for image in range(200)}
    assert len(seen) == 8


def test_only_granted_symmetries_are_used() -> None:
    corner = np.zeros((8, 8, 3), np.uint8)
    corner[:4, :4] = 255
    plain = train_transform(Recipe(model="x", image_size=8, epochs=1, lr=1), [], (8, 8))
    declined = train_transform(Recipe(model="x", image_size=8, epochs=1, lr=1, symmetries=False), ["hflip"], (8, 8))
    for transform in (plain, declined):
        for image in range(20):
            np.testing.assert_array_equal(transform(corner, image), corner)


def test_resize_policies() -> None:
    wide = np.zeros((40, 80, 3), np.uint8)
    wide[:, 20:60] = 200  # the middle square is all that a full-height centre crop sees
    base = {"model": "x", "image_size": 20, "epochs": 1, "lr": 1}
    cropped = eval_transforms(Recipe(**base, resize="crop", crop_share=1.0))[0](wide, 0)
    assert (cropped == 200).all()
    squashed = eval_transforms(Recipe(**base))[0](wide, 0)
    assert squashed.shape == (20, 20, 3) and (squashed[:, :5] == 0).all() and (squashed[:, 5:15] == 200).all()
    boxed = eval_transforms(Recipe(**base, resize="letterbox"))[0](wide, 0)
    assert (boxed[:5] == 128).all() and (boxed[15:] == 128).all()  # all of it, in its shape, on grey
    assert (boxed[5:15, :5] == 0).all() and (boxed[5:15, 5:15] == 200).all() and (boxed[5:15, 15:] == 0).all()


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_256_and_the_centre_224_are_torchvisions(interpolation: str) -> None:
    """A smooth picture, so that what differs is the place of the crop and not the filter of the resize."""
    y, x = np.mgrid[0:300, 0:400]
    picture = np.stack([x / 2, y / 2, (x + y) / 4], axis=2).astype(np.uint8)
    recipe = Recipe(model="x", image_size=224, epochs=1, lr=1, resize="crop", crop_share=0.875)
    ours = eval_transforms(recipe, IMAGENET._replace(interpolation=interpolation, crop_share=0.5))[0](picture, 0)
    theirs = v2.Compose([v2.Resize(256, v2.InterpolationMode(interpolation)), v2.CenterCrop(224)])
    expected = theirs(torch.from_numpy(picture).permute(2, 0, 1)).permute(1, 2, 0).numpy()
    assert np.abs(ours.astype(int) - expected.astype(int)).max() <= 2
    told = Recipe(model="x", image_size=224, epochs=1, lr=1, resize="crop")  # the share that the weights tell
    assert np.abs(eval_transforms(told, IMAGENET._replace(crop_share=0.5))[0](picture, 0) - expected).max() > 2


@pytest.mark.parametrize(
    "name", ["random_resized_crop", "affine", "color_jitter", "invert", "grayscale", "noise", "erase"]
)
def test_every_augmentation_changes_a_picture_and_keeps_its_form(name: str) -> None:
    image = np.random.default_rng(0).integers(0, 255, (24, 30, 3), dtype=np.uint8)
    arguments = {} if name == "random_resized_crop" else {"p": 1.0}
    recipe = Recipe(model="x", image_size=24, epochs=1, lr=1, augment={name: arguments})
    transform = train_transform(recipe, [], (24, 24))
    plain = eval_transforms(recipe)[0](image, 0)
    for seed in range(3):  # noise may draw a strength near nothing
        changed = transform(image, seed)
        assert changed.shape == (24, 24, 3) and changed.dtype == np.uint8
        if (changed != plain).any():
            return
    pytest.fail(f"{name} changes nothing")


@pytest.mark.parametrize("symmetries", [[], ["hflip"], ["hflip", "vflip"], ["hflip", "rot90", "transpose"]])
def test_the_shortest_path_makes_the_bits_of_albumentations(symmetries: list[str]) -> None:
    image = np.random.default_rng(0).integers(0, 255, (30, 41, 3), dtype=np.uint8)
    recipe = Recipe(model="x", image_size=16, epochs=1, lr=1, augment={"random_resized_crop": {"scale": [0.2, 1]}})
    short = train_transform(recipe, symmetries, (16, 16))
    assert isinstance(short, CropAndTurn)
    out = np.empty((16, 16, 3), np.uint8)
    for key in range(60):
        for mirrored in (False, True):
            expected = Augmenter.__call__(short, image, key, mirrored)
            np.testing.assert_array_equal(short(image, key, mirrored), expected)
            assert short(image, key, mirrored, out) is not None
            np.testing.assert_array_equal(out, expected)


def test_a_recipe_that_does_more_than_crop_and_turn_goes_through_albumentations() -> None:
    assert not isinstance(train_transform(RECIPE, ["hflip"], (16, 16)), CropAndTurn)
    assert not isinstance(train_transform(Recipe(model="x", image_size=8, epochs=1, lr=1), [], (8, 8)), CropAndTurn)


def test_images_grow_with_the_epochs(shapes: Paths, rows: pd.DataFrame) -> None:
    recipe = load_recipe("tiny", ["epochs=10", "image_size=32", "start_scale=0.5"])
    sides = [recipe.size_at(epoch)[0] for epoch in range(10)]
    assert sides == sorted(sides) and sides[0] == 16 and set(sides[7:]) == {32}
    pixels = open_pixels(shapes, rows, recipe.cache_side, "train")
    dataset = ImageDataset(pixels, rows[rows["split"] == "train"], train_transforms(recipe, []))
    loader = Loader(dataset, EpochBatches(60, 8, seed=0), 0, False)
    assert [next(loader.epoch(epoch))[0].shape[1] for epoch in range(10)] == sides
    smaller = load_recipe("tiny", ["image_size=64", "train_scale=0.8", "start_scale=0.75"])
    assert [smaller.size_at(epoch)[0] for epoch in range(2)] == [40, 51]
    larger = load_recipe("tiny", ["image_size=64", "start_scale=0.75", "epochs=10"])
    assert [larger.size_at(epoch)[0] for epoch in range(10)] == [48] * 4 + [64] * 6


def test_images_that_are_no_squares() -> None:
    image = np.full((60, 60, 3), 255, np.uint8)
    base = {"model": "x", "image_size": [20, 40], "epochs": 10, "lr": 1, "start_scale": 0.5}
    recipe = Recipe.model_validate(base)
    assert [recipe.size_at(epoch) for epoch in (0, 9)] == [(8, 16), (20, 40)]
    for resize in ("squash", "letterbox", "crop"):
        padded = eval_transforms(Recipe.model_validate({**base, "resize": resize}))[0](image, 0)
        assert padded.shape == (20, 40, 3)
        white = (padded == 255).all((0, 2))
        assert white.sum() == (20 if resize == "letterbox" else 40) and white[10:30].all()
    crop = Recipe.model_validate({**base, "resize": "crop", "crop_share": 1.0})
    wide = np.random.default_rng(0).integers(0, 255, (60, 120, 3), np.uint8)
    reference = cv2.resize(wide, (40, 20), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(eval_transforms(crop)[0](wide, 0), reference)
