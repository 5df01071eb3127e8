"""Residual networks, built from blocks as in the papers (He et al., 2016; Xie et al., 2017).

The submodules have torchvision's names, so that its state dicts can be loaded and give the same outputs.

Legend: B batch, S side, C channels; maps (B, C, S, S).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import nn

from pipeline.learner.networks import register_model


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut around them: the block learns the difference to its input."""

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
    """A 1x1 convolution to fewer channels, a 3x3 convolution, and a 1x1 convolution to more channels, with a shortcut.

    This allows more layers for the same amount of work. The 3x3 convolution has the stride ("v1.5").

    groups: number of groups of the 3x3 convolution; with more than one, the network is a ResNeXt
    group_width: number of channels of each group, at a block width of 64
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
    """The shortcut of a block: the identity, or a 1x1 convolution if the number or the size of the maps changes."""
    if stride == 1 and before == after:
        return nn.Sequential()
    return nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))


#: Builds a block: (input channels, width, stride) -> module, whose ``channels`` is the number of output channels.
Block = Callable[[int, int, int], BasicBlock | Bottleneck]


class Layout(NamedTuple):
    """The kind of block, and the number of blocks in each stage."""

    block: Block
    depths: Sequence[int]


class ResNet(nn.Module):
    """A stem, stages of blocks, and a linear head. Each stage after the first halves the maps and doubles the channels.

    layout: kind of block, and number of blocks in each stage
    width: number of channels of the stem, and block width of the first stage
    stem: "large" for a 7x7 convolution and max pooling, which reduce 224 px to 56; "small", for images of about 32 px,
        for a 3x3 convolution that keeps the size
    dropout: fraction of the features that are dropped before the head
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
            raise ValueError(f"stem must be 'large' or 'small', not '{stem}'")
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
    """Registers a residual network as ``foldwise/<name>``; recipes set width, stem and dropout in model_args."""
    register_model(f"foldwise/{name}")(partial(ResNet, layout))


register("resnet18", Layout(BasicBlock, (2, 2, 2, 2)))
register("resnet34", Layout(BasicBlock, (3, 4, 6, 3)))
register("resnet50", Layout(Bottleneck, (3, 4, 6, 3)))
register("resnext50_32x4d", Layout(partial(Bottleneck, groups=32, group_width=4), (3, 4, 6, 3)))
