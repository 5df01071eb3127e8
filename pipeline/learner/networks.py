"""Small networks to train from scratch, and the registry of all networks that Foldwise defines.

To add a network, add a function with ``@register_model()``.

Legend: images (B, 3, S, S) float, normalised; logits (B, C).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import nn

from pipeline.pixels.preprocessing import IMAGENET, MINUS_ONE_TO_ONE, Preprocessing


class AdaptivePool(nn.Module):
    """Averages maps (B, C, H, W) to (B, C, ``side``, ``side``), as nn.AdaptiveAvgPool2d does.

    It is two matrix products, since on CUDA that layer has no deterministic gradient. Maps that have this size already
    stay as they are.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        height, width = maps.shape[2:]
        if height == width == self.side:
            return maps
        return self.weights(height, maps) @ maps @ self.weights(width, maps).T

    def weights(self, length: int, maps: torch.Tensor) -> torch.Tensor:
        """The share (side, length) of each pixel along an axis in each result."""
        places = torch.arange(length, device=maps.device)
        results = torch.arange(self.side, device=maps.device).unsqueeze(1)
        first, last = results * length // self.side, ((results + 1) * length - 1) // self.side  # of each result
        inside = (first <= places) & (places <= last)
        return (inside / inside.sum(dim=1, keepdim=True)).to(maps.dtype)


class GlobalMaxPool(nn.Module):
    """The largest value of each map: (B, C, H, W) -> (B, C). nn.AdaptiveMaxPool2d has no deterministic gradient."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return maps.amax(dim=(2, 3))


class Registered(NamedTuple):
    """A registered network.

    build: function (num_classes, **model_args) -> module
    preprocessing: what the network expects of its input
    """

    build: Callable[..., nn.Module]
    preprocessing: Preprocessing


REGISTERED: dict[str, Registered] = {}


def register_model(
    name: str = "", preprocessing: Preprocessing = IMAGENET
) -> Callable[[Callable[..., nn.Module]], Callable[..., nn.Module]]:
    """Registers a builder, so that recipes can use it by ``name`` or, without one, by the function's name."""

    def register(build: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
        REGISTERED[name or build.__name__] = Registered(build, preprocessing)
        return build

    return register


def convolution(before: int, after: int, batch_norm: bool = True) -> list[nn.Module]:
    """A 3x3 convolution that keeps the size, with BatchNorm or else a bias, and ReLU."""
    norm: list[nn.Module] = [nn.BatchNorm2d(after)] if batch_norm else []
    return [nn.Conv2d(before, after, 3, padding=1, bias=not batch_norm), *norm, nn.ReLU(inplace=True)]


@register_model()
def small_cnn(num_classes: int, width: int = 32, dropout: float = 0.2) -> nn.Module:
    """Three pairs of 3x3 convolutions with BatchNorm; the image is halved twice. For images of about 8 to 32 px."""

    def pair(before: int, after: int) -> list[nn.Module]:
        return [*convolution(before, after), *convolution(after, after)]

    return nn.Sequential(
        *pair(3, width), nn.MaxPool2d(2),
        *pair(width, 2 * width), nn.MaxPool2d(2),
        *pair(2 * width, 4 * width), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Dropout(dropout), nn.Linear(4 * width, num_classes),
    )  # fmt: skip


@register_model()
def cifar_net(num_classes: int, widths: Sequence[int] = (48, 128, 192)) -> nn.Module:
    """A 2x2 convolution and three groups of two 3x3 convolutions, for images of 32 px and short training.

    Each group halves the image after its first convolution. Based on airbench94 (Jordan, 2024, "94 % on CIFAR-10 in
    3.29 seconds").
    """

    def group(before: int, after: int) -> list[nn.Module]:
        first = [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.MaxPool2d(2), nn.BatchNorm2d(after), nn.GELU()]
        return [*first, nn.Conv2d(after, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.GELU()]

    first, second, third = widths
    return nn.Sequential(
        nn.Conv2d(3, 24, 2), nn.GELU(), *group(24, first), *group(first, second), *group(second, third),
        GlobalMaxPool(), nn.Flatten(), nn.Linear(third, num_classes),
    )  # fmt: skip


@register_model(preprocessing=MINUS_ONE_TO_ONE)
def lenet(num_classes: int) -> nn.Module:
    """LeNet-5 (LeCun et al., 1998) with ReLU and max pooling, for images of at least 12 px.

    The last maps are averaged to 5x5, the size that they have for images of 32 px.
    """
    return nn.Sequential(
        nn.Conv2d(3, 6, 5), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        AdaptivePool(5), nn.Flatten(),
        nn.Linear(16 * 5 * 5, 120), nn.ReLU(inplace=True),
        nn.Linear(120, 84), nn.ReLU(inplace=True),
        nn.Linear(84, num_classes),
    )  # fmt: skip


@register_model(preprocessing=MINUS_ONE_TO_ONE)
def cnn(num_classes: int, dropout: float = 0, batch_norm: bool = False) -> nn.Module:
    """A plain CNN: three 3x3 convolutions of 32, 64 and 128 channels, each halving the image, and two linear layers.

    dropout: fraction of the features that are dropped before each linear layer
    batch_norm: True for BatchNorm after each convolution
    """
    return nn.Sequential(
        *convolution(3, 32, batch_norm), nn.MaxPool2d(2),
        *convolution(32, 64, batch_norm), nn.MaxPool2d(2),
        *convolution(64, 128, batch_norm), nn.MaxPool2d(2),
        AdaptivePool(4), nn.Flatten(), nn.Dropout(dropout),
        nn.Linear(128 * 4 * 4, 256), nn.ReLU(inplace=True), nn.Dropout(dropout),
        nn.Linear(256, num_classes),
    )  # fmt: skip


@register_model(preprocessing=MINUS_ONE_TO_ONE)
def cnn_dropout(num_classes: int, dropout: float = 0.5) -> nn.Module:
    """``cnn`` with Dropout (Srivastava et al., 2014)."""
    return cnn(num_classes, dropout=dropout)


@register_model(preprocessing=MINUS_ONE_TO_ONE)
def cnn_batchnorm(num_classes: int) -> nn.Module:
    """``cnn`` with BatchNorm (Ioffe & Szegedy, 2015)."""
    return cnn(num_classes, batch_norm=True)
