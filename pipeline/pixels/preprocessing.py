"""Describes the input that the weights of a network expect."""

from __future__ import annotations

from typing import NamedTuple

ChannelValues = tuple[float, ...]  # one value for each RGB channel, for pixels in 0..1


class Preprocessing(NamedTuple):
    """Mean and standard deviation of the channels, and how an image is resized to a square."""

    mean: ChannelValues
    std: ChannelValues
    interpolation: str = "bilinear"  # by timm's names
    crop_share: float = 0.875  # side of the centre crop / shorter side, unless the recipe sets it


#: The statistics of ImageNet; and a scaling of pixels to -1..1.
IMAGENET = Preprocessing((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
MINUS_ONE_TO_ONE = Preprocessing((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
