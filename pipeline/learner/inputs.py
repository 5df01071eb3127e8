"""Prepares a batch on the device before it enters the model: normalisation, Mixup and CutMix.

Legend: B batch, C classes, S side; images (B, S, S, 3) uint8 -> inputs (B, 3, S, S) float; targets (B, C) float.
"""

from __future__ import annotations

import torch
from torch import nn
from torchvision.transforms import v2

from pipeline.pixels.preprocessing import Preprocessing
from pipeline.records.recipe import Recipe


class Normalize(nn.Module):
    """Normalises uint8 images (B, S, S, 3) to float inputs (B, 3, S, S): (pixel / 255 - mean) / std.

    The result has the memory layout that the model reads: channels last, or one plane for each channel. In both cases
    the arithmetic runs over whole rows, since broadcasting three numbers over each pixel takes several times as long.
    """

    def __init__(self, preprocessing: Preprocessing, channels_last: bool = False) -> None:
        super().__init__()
        mean, std = torch.tensor(preprocessing.mean), torch.tensor(preprocessing.std)
        self.scale, self.offset = nn.Buffer(1 / (std * 255)), nn.Buffer(-mean / std)
        self.channels_last = channels_last
        self.of_rows: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if not self.channels_last:
            planes = images.permute(0, 3, 1, 2).contiguous().float()
            return torch.addcmul(self.offset.view(3, 1, 1), planes, self.scale.view(3, 1, 1), out=planes)
        rows, side = images.flatten(2).float(), images.shape[2]  # (B, S, S * 3)
        if side not in self.of_rows:
            self.of_rows[side] = self.offset.repeat(side), self.scale.repeat(side)
        offset, scale = self.of_rows[side]
        torch.addcmul(offset, rows, scale, out=rows)
        return rows.view(images.shape).permute(0, 3, 1, 2)


class Mixer:
    """Applies Mixup (Zhang et al., 2018) or CutMix (Yun et al., 2019) to a batch; chooses at random if both are on.

    Uses torch's global generator, which the training loop seeds with (seed, fold, step, rank).
    """

    def __init__(self, recipe: Recipe) -> None:
        kinds = [(v2.MixUp, recipe.mixup), (v2.CutMix, recipe.cutmix)]
        self.choices = [kind(alpha=alpha) for kind, alpha in kinds if alpha > 0]
        self.probability = recipe.mix_probability

    def __call__(self, inputs: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.choices or torch.rand(()) >= self.probability:
            return inputs, targets
        return self.choices[int(torch.randint(len(self.choices), ()))](inputs, targets)
