"""Augmentations by name, on uint8 (H, W, 3) RGB. To add one, add a function.

Each takes the side of the square image that training wants, then its own arguments, which a recipe sets:

    [augment.random_resized_crop]
    scale = [0.3, 1.0]

Sizes are shares of the image, angles are degrees, p is the probability. A recipe's functions run in its order.
"""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Sequence

import albumentations as A
import cv2
import numpy as np

from pipeline.records.errors import FoldwiseError, nearest
from pipeline.records.recipe import Recipe

AUGMENTATIONS: dict[str, Callable[..., A.BasicTransform]] = {}


def augmentation(function: Callable[..., A.BasicTransform]) -> Callable[..., A.BasicTransform]:
    """Makes a function known to recipes by its name."""
    AUGMENTATIONS[function.__name__] = function
    return function


@augmentation
def random_resized_crop(
    side: int, scale: Sequence[float] = (0.08, 1.0), ratio: Sequence[float] = (0.75, 4 / 3)
) -> A.BasicTransform:
    """A random part of the image, of this share of its area and this shape (Szegedy et al., 2015)."""
    return A.RandomResizedCrop((side, side), scale=tuple(scale), ratio=tuple(ratio), area_for_downscale="image")


@augmentation
def affine(
    side: int, degrees: float = 10, shift: float = 0.1, zoom: float = 0.1, shear: float = 0, p: float = 1
) -> A.BasicTransform:
    """A small rotation, shift, zoom and shear; edges repeat."""
    return A.Affine(
        rotate=(-degrees, degrees),
        translate_percent=(-shift, shift),
        scale=(1 - zoom, 1 + zoom),
        shear=(-shear, shear),
        border_mode=cv2.BORDER_REPLICATE,
        p=p,
    )


@augmentation
def color_jitter(
    side: int,
    brightness: float = 0.2,
    contrast: float = 0.2,
    saturation: float = 0.2,
    hue: float = 0.05,
    p: float = 0.8,
) -> A.BasicTransform:
    """Random brightness, contrast, saturation and hue."""
    return A.ColorJitter(
        (1 - brightness, 1 + brightness),
        (1 - contrast, 1 + contrast),
        (1 - saturation, 1 + saturation),
        (-hue, hue),
        p=p,
    )


@augmentation
def invert(side: int, p: float = 0.5) -> A.BasicTransform:
    """Dark for light: for letters and digits, which are read on any ground."""
    return A.InvertImg(p=p)


@augmentation
def grayscale(side: int, p: float = 0.2) -> A.BasicTransform:
    """Without its colours."""
    return A.ToGray(p=p)


@augmentation
def noise(side: int, std: float = 0.05, p: float = 0.5) -> A.BasicTransform:
    """Gaussian noise of up to this share of the range."""
    return A.GaussNoise(std_range=(0, std), p=p)


@augmentation
def erase(side: int, size: Sequence[float] = (0.1, 0.4), p: float = 0.25) -> A.BasicTransform:
    """A grey rectangle over a part (random erasing, Zhong et al., 2017)."""
    return A.CoarseDropout(
        num_holes_range=(1, 1), hole_height_range=tuple(size), hole_width_range=tuple(size), fill=128, p=p
    )


#: What leaves a label true, by the names of competition.toml; each makes half of the images another.
SYMMETRIES: dict[str, Callable[[], A.BasicTransform]] = {
    "hflip": lambda: A.HorizontalFlip(p=0.5),
    "vflip": lambda: A.VerticalFlip(p=0.5),
    "rot90": lambda: A.RandomRotate90(p=1),
    "transpose": lambda: A.Transpose(p=0.5),
}


def whole_picture(recipe: Recipe) -> list[A.BasicTransform]:
    """The fixed steps from a picture to a square, as validation and prediction see it."""
    side = recipe.image_size
    if recipe.resize == "squash":
        return [A.Resize(side, side, area_for_downscale="image")]
    return [
        A.SmallestMaxSize(round(side / recipe.crop_share), area_for_downscale="image"),
        A.CenterCrop(side, side),
    ]


def eval_transform(recipe: Recipe) -> A.Compose:
    """uint8 (H, W, 3) -> uint8 (image_size, image_size, 3), without chance."""
    return A.Compose(whole_picture(recipe))


def train_transform(recipe: Recipe, symmetries: Sequence[str]) -> A.Compose:
    """uint8 (H, W, 3) -> uint8 (image_size, image_size, 3): the recipe's functions, then the granted symmetries.

    Raises FoldwiseError for an unknown function or argument, naming the nearest.
    """
    steps = [] if "random_resized_crop" in recipe.augment else whole_picture(recipe)
    for name, arguments in recipe.augment.items():
        if name not in AUGMENTATIONS:
            raise FoldwiseError(f"unknown augmentation '{name}'{nearest(name, AUGMENTATIONS)}")
        known = list(inspect.signature(AUGMENTATIONS[name]).parameters)[1:]
        for argument in arguments:
            if argument not in known:
                raise FoldwiseError(f"augmentation '{name}' has no argument '{argument}'{nearest(argument, known)}")
        try:
            steps.append(AUGMENTATIONS[name](recipe.image_size, **arguments))
        except (TypeError, ValueError) as error:
            reason = str(error).replace("\n", " ")
            raise FoldwiseError(f"augmentation '{name}' does not take {arguments}: {reason}") from error
    if recipe.symmetries:
        steps += [SYMMETRIES[name]() for name in symmetries]
    return A.Compose(steps)


def seed_transform(transform: A.Compose, *key: int) -> None:
    """Makes the next draw of a Compose a function of the key, such as (seed, epoch, image).

    albumentations 2.0.8 would repeat its stream in every worker and epoch, and ``set_random_seed`` would give each
    transform of a Compose the same seed; one generator handed to all of them has neither fault.
    """
    generator = np.random.default_rng(key)
    transform.set_random_state(generator, random.Random(int(generator.integers(2**63))))
