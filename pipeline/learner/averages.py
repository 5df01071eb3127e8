"""Averages of a network's weights over the steps of its training: the weights to keep.

None of them is chosen by a score, so that the out-of-fold score stays honest.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from timm.utils import ModelEmaV3
from torch import nn

from pipeline.records.recipe import Recipe


class LastAverage(nn.Module):
    """The mean of the weights and buffers at a few fixed steps at the end of the training (LAWA, Kaddour, 2022).

    Before the first of these steps, it is the module at the end of the last epoch.

    module: the mean so far
    """

    def __init__(self, module: nn.Module, recipe: Recipe, steps: int) -> None:
        """steps: number of steps of an epoch"""
        super().__init__()
        self.module = copy.deepcopy(module).eval()
        self.steps, total = steps, recipe.epochs * steps
        gap = max(1, round(recipe.average_spacing * steps))
        self.averaged = [step for step in range(total - 1, -1, -gap)][: recipe.average_last][::-1]

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Includes the module after a step, if its turn has come."""
        if step in self.averaged:
            share = 1 / (self.averaged.index(step) + 1)
        elif step < self.averaged[0] and (step + 1) % self.steps == 0:
            share = 1.0
        else:
            return
        for mean, value in zip(self.module.state_dict().values(), module.state_dict().values(), strict=True):
            if mean.is_floating_point() and share < 1:
                mean.lerp_(value, share)
            else:
                mean.copy_(value)


class MovingAverage(ModelEmaV3):
    """timm's moving average, with the same arithmetic, whose lists of tensors are made only once.

    To make them takes longer than the update itself.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        super().__init__(module, decay=decay, use_warmup=True)
        pairs = list(zip(self.module.state_dict().values(), module.state_dict().values(), strict=True))
        self.means, self.values = columns(pair for pair in pairs if pair[0].is_floating_point())
        self.counts, self.counted = columns(pair for pair in pairs if not pair[0].is_floating_point())

    def apply_update_(self, model: nn.Module, decay: float) -> None:
        """Moves the average towards the module that it was made for."""
        torch._foreach_lerp_(self.means, self.values, weight=1 - decay)
        if self.counts:  # such as BatchNorm's number of batches
            torch._foreach_copy_(self.counts, self.counted)


def columns(pairs: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """The first and the second tensors of the pairs."""
    kept = list(pairs)
    return [first for first, _ in kept], [second for _, second in kept]


def average_of(module: nn.Module, recipe: Recipe, steps: int) -> MovingAverage | LastAverage | None:
    """The average that the recipe asks for, with ``update(module, step)`` and ``module``; None for no average."""
    if recipe.average_last:
        return LastAverage(module, recipe, steps)
    return MovingAverage(module, recipe.ema_decay) if recipe.ema_decay else None
