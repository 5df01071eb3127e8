"""Image augmentations that recipes use by name, on uint8 (H, W, 3) RGB. To add one, add a function.

Each function takes ``size``, height and width of the training image in pixels, then the arguments that a recipe sets:

    [augment.random_resized_crop]
    scale = [0.3, 1.0]

Sizes are fractions of the image, angles are in degrees, p is a probability. The order is that of the recipe.
"""

from __future__ import annotations

import hashlib
import inspect
import random
import struct
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import albumentations as A
import cv2
import numpy as np

from pipeline.pixels.preprocessing import IMAGENET, Preprocessing
from pipeline.pixels.strips import ShorterSide
from pipeline.records.recipe import Recipe, Size
from pipeline.system.errors import InputError, suggestion

AUGMENTATIONS: dict[str, Callable[..., A.BasicTransform]] = {}


def augmentation(function: Callable[..., A.BasicTransform]) -> Callable[..., A.BasicTransform]:
    """Registers a function, so that recipes can use it by its name."""
    AUGMENTATIONS[function.__name__] = function
    return function


@augmentation
def random_resized_crop(
    size: Size, scale: Sequence[float] = (0.08, 1.0), ratio: Sequence[float] = (0.75, 4 / 3)
) -> A.BasicTransform:
    """A random crop with its area fraction in ``scale`` and its aspect ratio in ``ratio`` (Szegedy et al., 2015).

    Bilinear interpolation is enough: decoded images are at most 1.5 times as large as ``image_size``, and area
    averaging takes four times as long.
    """
    return A.RandomResizedCrop(size, scale=tuple(scale), ratio=tuple(ratio))


@augmentation
def affine(
    size: Size, degrees: float = 10, shift: float = 0.1, zoom: float = 0.1, shear: float = 0, p: float = 1
) -> A.BasicTransform:
    """Random rotation, shift, zoom and shear; the edge pixels are repeated to fill empty areas."""
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
    size: Size,
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
def invert(size: Size, p: float = 0.5) -> A.BasicTransform:
    """Inverts the pixel values: for letters and digits, which may be dark on light or light on dark."""
    return A.InvertImg(p=p)


@augmentation
def grayscale(size: Size, p: float = 0.2) -> A.BasicTransform:
    """Converts the image to grey, in three equal channels."""
    return A.ToGray(p=p)


@augmentation
def noise(size: Size, std: float = 0.05, p: float = 0.5) -> A.BasicTransform:
    """Gaussian noise with a standard deviation from 0 to ``std``, as a fraction of the pixel range."""
    return A.GaussNoise(std_range=(0, std), p=p)


@augmentation
def erase(image_size: Size, size: Sequence[float] = (0.1, 0.4), p: float = 0.25) -> A.BasicTransform:
    """Covers a random rectangle with grey (random erasing, Zhong et al., 2017)."""
    return A.CoarseDropout(
        num_holes_range=(1, 1), hole_height_range=tuple(size), hole_width_range=tuple(size), fill=128, p=p
    )


#: Random transforms that keep the label, by their names in competition.toml. rot90 makes 0 to 3 quarter turns.
SYMMETRIES: dict[str, Callable[[], A.BasicTransform]] = {
    "hflip": lambda: A.HorizontalFlip(p=0.5),
    "vflip": lambda: A.VerticalFlip(p=0.5),
    "rot90": lambda: A.RandomRotate90(p=1),
    "transpose": lambda: A.Transpose(p=0.5),
}


#: OpenCV's interpolations by timm's names. To downscale, bilinear uses area averaging; the others do not need it, since
#: the decoded image is not much larger than the result.
INTERPOLATIONS = {"bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC, "nearest": cv2.INTER_NEAREST}


def resize_steps(recipe: Recipe, size: Size, preprocessing: Preprocessing = IMAGENET) -> list[A.BasicTransform]:
    """The deterministic transforms from an image to this size, for validation and prediction."""
    options: dict[str, Any] = {"interpolation": INTERPOLATIONS.get(preprocessing.interpolation, cv2.INTER_LINEAR)}
    if options["interpolation"] == cv2.INTER_LINEAR:
        options["area_for_downscale"] = "image"
    if recipe.resize == "squash":
        return [A.Resize(*size, **options)]
    if recipe.resize == "letterbox":
        return [A.LongestMaxSize(max_size_hw=size, **options), A.PadIfNeeded(*size, fill=128)]
    crop_share = recipe.crop_share or preprocessing.crop_share
    height, width = (round(side / crop_share) for side in size)
    return [ShorterSide(max_size_hw=(height, width), **options), A.CenterCrop(*size)]


def eval_transforms(recipe: Recipe, preprocessing: Preprocessing = IMAGENET) -> list[Augmenter]:
    """The deterministic transform of all epochs: uint8 (H, W, 3) -> uint8 (*recipe.size, 3)."""
    return [Augmenter(resize_steps(recipe, recipe.size, preprocessing), recipe.size)]


def train_transforms(
    recipe: Recipe, symmetries: Sequence[str], preprocessing: Preprocessing = IMAGENET
) -> list[Augmenter]:
    """One transform for each epoch: uint8 (H, W, 3) -> uint8 (*recipe.size_at(epoch), 3)."""
    sizes = set(map(recipe.size_at, range(recipe.epochs)))
    by_size = {size: train_transform(recipe, symmetries, size, preprocessing) for size in sizes}
    return [by_size[recipe.size_at(epoch)] for epoch in range(recipe.epochs)]


def train_transform(
    recipe: Recipe, symmetries: Sequence[str], size: Size, preprocessing: Preprocessing = IMAGENET
) -> Augmenter:
    """The recipe's augmentations, then the granted symmetries; an alternating hflip is left out, as it is not random.

    Raises FoldwiseError for an unknown function or argument, with the nearest known name, or for an invalid value.
    """
    steps = [] if "random_resized_crop" in recipe.augment else resize_steps(recipe, size, preprocessing)
    for name, arguments in recipe.augment.items():
        if name not in AUGMENTATIONS:
            raise InputError(f"unknown augmentation '{name}'{suggestion(name, AUGMENTATIONS)}")
        known = list(inspect.signature(AUGMENTATIONS[name]).parameters)[1:]
        for argument in arguments:
            if argument not in known:
                raise InputError(f"augmentation '{name}' has no argument '{argument}'{suggestion(argument, known)}")
        try:
            steps.append(AUGMENTATIONS[name](size, **arguments))
        except (TypeError, ValueError) as error:
            reason = str(error).replace("\n", " ")
            raise InputError(f"augmentation '{name}' does not take {arguments}: {reason}") from error
    steps += [SYMMETRIES[name]() for name in random_symmetries(recipe, symmetries)]
    return (CropAndTurn if CropAndTurn.can_apply(steps) else Augmenter)(steps, size)


def has_alternating_flip(recipe: Recipe, granted: Sequence[str]) -> bool:
    """True if images are mirrored in every other epoch: if the recipe asks for it and the competition grants hflip."""
    return recipe.symmetries and recipe.alternating_flip and "hflip" in granted


def random_symmetries(recipe: Recipe, granted: Sequence[str]) -> list[str]:
    """The granted symmetries that are applied at random."""
    if not recipe.symmetries:
        return []
    return [name for name in granted if not (name == "hflip" and recipe.alternating_flip)]


def random_key(*numbers: int) -> int:
    """A 128-bit hash of integers such as (seed, epoch, image), used as the key of random draws."""
    packed = struct.pack(f"<{len(numbers)}q", *numbers)
    return int.from_bytes(hashlib.blake2b(packed, digest_size=16).digest(), "little")


class Augmenter:
    """Applies albumentations transforms in order and returns images of one size; a key decides all draws.

    albumentations 2.0.8 would repeat its random stream in every worker and epoch, and ``set_random_seed`` would give
    each transform of a Compose the same seed. Here all transforms share one pair of generators, seeded again for each
    image. Philox (Salmon et al., 2011) is a function of key and counter, so setting its key is enough to seed it.
    Compose is not used, because its checks take longer than a flip.
    """

    def __init__(self, transforms: Sequence[A.BasicTransform], size: Size) -> None:
        self.transforms, self.size = list(transforms), size
        self.random = random.Random()
        self.philox = np.random.Philox(key=0)
        self._start: Any = self.philox.state  # the state before the first draw
        generator = np.random.Generator(self.philox)
        for transform in self.transforms:
            transform.set_random_state(generator, self.random)

    def seed(self, key: int) -> None:
        """Seeds both generators with a key of up to 128 bits."""
        self.random.seed(key)
        self._start["state"]["key"][:] = key & _MASK_64, key >> 64
        self.philox.state = self._start

    def __call__(
        self, image: np.ndarray, key: int, mirrored: bool = False, out: np.ndarray | None = None
    ) -> np.ndarray:
        """The image (*size, 3) transformed by the draws of ``key``, then mirrored if asked; in ``out`` if given."""
        self.seed(key)
        for transform in self.transforms:
            image = transform(image=image)["image"]
        if mirrored:
            image = cv2.flip(image, 1)
        if out is None:
            return image
        np.copyto(out, image)
        return out


_MASK_64 = 2**64 - 1


class Turn(NamedTuple):
    """One of the eight symmetries of a square: an optional transpose, then optional flips."""

    swap: bool = False  # transpose: rows become columns
    flip_rows: bool = False  # reverse the order of the rows
    flip_columns: bool = False  # reverse the order of the columns

    @cache  # noqa: B019  there are only eight turns
    def then(self, name: str, times: int = 1) -> Turn:
        """This turn, followed ``times`` times by the symmetry ``name``."""
        turn = self
        for _ in range(times):
            if name == "hflip":
                turn = turn._replace(flip_columns=not turn.flip_columns)
            elif name == "vflip":
                turn = turn._replace(flip_rows=not turn.flip_rows)
            elif name == "transpose":
                turn = Turn(not turn.swap, turn.flip_columns, turn.flip_rows)
            else:  # rot90: a quarter turn to the left is a transpose, then a flip of the rows
                turn = turn.then("transpose").then("vflip")
        return turn

    def apply(self, image: np.ndarray) -> np.ndarray:
        """Applies the turn to an image (H, W, 3), a square if rows and columns are swapped, in place; returns it."""
        if self.swap:
            np.copyto(image, cv2.transpose(image))
        if self.flip_rows or self.flip_columns:
            # In place: allocating an array for each flip takes five times as long.
            cv2.flip(image, -1 if self.flip_rows and self.flip_columns else int(self.flip_columns), dst=image)
        return image


class CropAndTurn(Augmenter):
    """Fast path for the common case: one random resized crop, then only symmetries.

    It makes the same random draws as the transforms, from the same stream, and its images are bit-identical to theirs;
    it only skips the checks and copies of each transform.
    """

    _NAMES = {A.HorizontalFlip: "hflip", A.VerticalFlip: "vflip", A.RandomRotate90: "rot90", A.Transpose: "transpose"}

    @classmethod
    def can_apply(cls, transforms: Sequence[A.BasicTransform]) -> bool:
        """True if the transforms are one random resized crop, followed by symmetries only."""
        first, *others = map(type, transforms)
        return first is A.RandomResizedCrop and all(kind in cls._NAMES for kind in others)

    def draw(self, shape: tuple[int, int], key: int, mirrored: bool) -> tuple[tuple[int, int, int, int], Turn]:
        """The crop box (left, top, right, bottom) in an image of this height and width, and the turn of the crop."""
        self.random.seed(key)  # none of these transforms draws from NumPy's generator
        crop, *turns = self.transforms
        box = crop.get_params_dependent_on_data({"shape": shape}, {})["crop_coords"]
        turn = Turn()
        for transform in turns:
            if transform.should_apply():
                turn = turn.then(self._NAMES[type(transform)], transform.get_params().get("factor", 1))
        return box, turn.then("hflip", int(mirrored))

    def __call__(
        self, image: np.ndarray, key: int, mirrored: bool = False, out: np.ndarray | None = None
    ) -> np.ndarray:
        (left, top, right, bottom), turn = self.draw(image.shape[:2], key, mirrored)
        crop = image[top:bottom, left:right]
        return turn.apply(cv2.resize(crop, self.size[::-1], dst=out, interpolation=cv2.INTER_LINEAR))
