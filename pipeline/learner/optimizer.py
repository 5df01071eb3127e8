"""Optimizer and learning-rate schedule, both functions of the recipe and the step."""

from __future__ import annotations

import math

import torch
from timm.optim import param_groups_layer_decay
from torch import nn

from pipeline.learner.transfer import head_of, in_head
from pipeline.records.recipe import Recipe
from pipeline.system.errors import FoldwiseError


def parameter_groups(module: nn.Module, recipe: Recipe) -> list[dict]:
    """Groups of parameters by weight decay (none for norms and biases, which have one dimension) and by ``lr_scale``,
    the factor of their learning rate: that of the head, and less from layer to layer below it (timm).

    Raises FoldwiseError where the layers are not known.
    """
    scales = dict.fromkeys(module.parameters(), 1.0)
    if recipe.layer_decay < 1:
        if not hasattr(module, "group_matcher"):
            raise FoldwiseError(f"layer_decay needs a model of timm's, which '{recipe.model}' is not; leave it out")
        for group in param_groups_layer_decay(module, layer_decay=recipe.layer_decay):
            scales |= dict.fromkeys(group["params"], group["lr_scale"])
    head = head_of(module)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {(recipe.weight_decay, 1.0): [], (0.0, 1.0): []}
    for name, parameter in module.named_parameters():
        scale = scales[parameter] * (recipe.head_lr_scale if in_head(name, head) else 1)
        groups.setdefault((recipe.weight_decay if parameter.ndim > 1 else 0.0, scale), []).append(parameter)
    return [
        {"params": parameters, "weight_decay": weight_decay, "lr_scale": scale}
        for (weight_decay, scale), parameters in groups.items()
        if parameters
    ]


def build_optimizer(module: nn.Module, recipe: Recipe, device: torch.device) -> torch.optim.Optimizer:
    """adam, adamw or sgd (Nesterov momentum), fused where the device has it."""
    groups = parameter_groups(module, recipe)
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
    """The learning rate of a step, for each parameter group at its scale."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]
