"""Optimizer and learning-rate schedule, both functions of the recipe and the step."""

from __future__ import annotations

import math

import torch
from torch import nn

from pipeline.records.recipe import Recipe


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict]:
    """Weights with decay; norms and biases, which have one dimension, without."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return [
        {"params": [parameter for parameter in trained if parameter.ndim > 1], "weight_decay": weight_decay},
        {"params": [parameter for parameter in trained if parameter.ndim <= 1], "weight_decay": 0.0},
    ]


def build_optimizer(module: nn.Module, recipe: Recipe, device: torch.device) -> torch.optim.Optimizer:
    """adam, adamw or sgd (Nesterov momentum), fused where the device has it."""
    groups = parameter_groups(module, recipe.weight_decay)
    fused = device.type in ("cpu", "cuda")
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, recipe.lr, momentum=recipe.momentum, nesterov=recipe.momentum > 0, fused=fused)
    kind = torch.optim.AdamW if recipe.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, recipe.lr, fused=fused)


def lr_at(step: int, steps_per_epoch: int, recipe: Recipe) -> float:
    """Learning rate of a step: linear warm-up, then half a cosine to zero (Loshchilov & Hutter, 2017) or constant."""
    total_steps = recipe.epochs * steps_per_epoch
    warmup_steps = min(recipe.warmup_epochs * steps_per_epoch, total_steps / 2)
    if step < warmup_steps:
        return recipe.lr * (step + 1) / (warmup_steps + 1)
    if recipe.schedule == "constant":
        return recipe.lr
    share = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return recipe.lr * 0.5 * (1 + math.cos(math.pi * share))


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """The same learning rate for every parameter group."""
    for group in optimizer.param_groups:
        group["lr"] = lr
