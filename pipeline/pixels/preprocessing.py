"""What the weights of a network expect of their input."""

from __future__ import annotations

from typing import NamedTuple

Colours = tuple[float, ...]  # by channel, of RGB pixels in 0..1


class Preprocessing(NamedTuple):
    """Channel means and deviations, and how a whole picture becomes a square where the recipe leaves that open."""

    mean: Colours
    std: Colours
    interpolation: str = "bilinear"  # by timm's names
    crop_share: float = 0.875


#: ImageNet's colours; and what brings pixels to -1..1.
IMAGENET = Preprocessing((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALVES = Preprocessing((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
