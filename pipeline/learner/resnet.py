"""Residual networks from their blocks (He et al., 2016; Xie et al., 2017), to be read beside the papers.

The names of the parts are torchvision's, so that its state dicts load and the outputs agree. Legend: B batch, S side,
C channels; maps (B, C, S, S).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import nn

from pipeline.learner.networks import register_model


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and the way around them: what is learned is the difference to the input."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.channels = width
        self.conv1 = nn.Conv2d(before, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut(before, width, stride)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        residual = self.relu(self.bn1(self.conv1(maps)))
        residual = self.bn2(self.conv2(residual))
        return self.relu(residual + self.downsample(maps))


class Bottleneck(nn.Module):
    """1x1 down to fewer channels, 3x3 on those, 1x1 up again: more layers for the same work.

    groups: the 3x3 convolution falls into this many, each on channels of its own, of ``group_width`` at a block width
    of 64. That alone makes a ResNeXt of a ResNet. The stride is that of the 3x3 convolution ("v1.5").
    """

    def __init__(self, before: int, width: int, stride: int, groups: int = 1, group_width: int = 64) -> None:
        super().__init__()
        inner, after = groups * (width * group_width // 64), 4 * width
        self.channels = after
        self.conv1 = nn.Conv2d(before, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, padding=1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, after, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(after)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut(before, after, stride)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        residual = self.relu(self.bn1(self.conv1(maps)))
        residual = self.relu(self.bn2(self.conv2(residual)))
        residual = self.bn3(self.conv3(residual))
        return self.relu(residual + self.downsample(maps))


def shortcut(before: int, after: int, stride: int) -> nn.Sequential:
    """The way around a block: the maps as they are, or a 1x1 convolution where their number or size changes."""
    if stride == 1 and before == after:
        return nn.Sequential()
    return nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))


#: Makes a block: (channels before, width, stride) -> module with ``channels``, those that leave it.
Block = Callable[[int, int, int], BasicBlock | Bottleneck]


class Layout(NamedTuple):
    """The kind of block, and the number of blocks in each stage."""

    block: Block
    depths: Sequence[int]


class ResNet(nn.Module):
    """A stem, four stages of blocks, each halving the maps and doubling the channels, and a linear head.

    width: channels of the first stage
    stem: "large" is the 7x7 convolution and the pooling that bring 224 px to 56; "small", for images of about 32 px, is
    a 3x3 convolution that keeps the size
    dropout: share of the features that are left out before the head
    """

    def __init__(
        self,
        layout: Layout,
        num_classes: int,
        width: int = 64,
        stem: Literal["large", "small"] = "large",
        dropout: float = 0,
    ) -> None:
        super().__init__()
        if stem not in ("large", "small"):
            raise ValueError(f"stem is 'large' or 'small', not '{stem}'")
        kernel, stride = (7, 2) if stem == "large" else (3, 1)
        self.conv1 = nn.Conv2d(3, width, kernel, stride, padding=kernel // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1) if stem == "large" else nn.Identity()
        before = width
        for stage, depth in enumerate(layout.depths):
            blocks = []
            for number in range(depth):
                first_of_later_stage = stage > 0 and number == 0
                blocks.append(layout.block(before, width * 2**stage, 2 if first_of_later_stage else 1))
                before = blocks[-1].channels
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.num_stages = len(layout.depths)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(before, num_classes)
        for part in self.modules():
            if isinstance(part, nn.Conv2d):  # He et al. (2015), "Delving deep into rectifiers"
                nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        for stage in range(self.num_stages):
            maps = getattr(self, f"layer{stage + 1}")(maps)
        return self.fc(self.dropout(self.avgpool(maps).flatten(1)))


def register(name: str, layout: Layout) -> None:
    """Makes a residual network known as ``foldwise/<name>``; recipes give width, stem and dropout in model_args."""
    register_model(f"foldwise/{name}")(partial(ResNet, layout))


register("resnet18", Layout(BasicBlock, (2, 2, 2, 2)))
register("resnet34", Layout(BasicBlock, (3, 4, 6, 3)))
register("resnet50", Layout(Bottleneck, (3, 4, 6, 3)))
register("resnext50_32x4d", Layout(partial(Bottleneck, groups=32, group_width=4), (3, 4, 6, 3)))
