"""Builds the optimizer of a recipe, and computes the learning rate of each step."""

from __future__ import annotations

import math

import torch
from timm.optim import create_optimizer_v2, list_optimizers
from torch import nn

from pipeline.learner.blocks import blocks_of
from pipeline.learner.transfer import head_of, in_head
from pipeline.records.recipe import Recipe
from pipeline.system.errors import InputError, suggestion

#: Start of the names of timm's optimizers, such as "timm/lion".
TIMM = "timm/"


def parameter_groups(module: nn.Module, recipe: Recipe) -> list[dict]:
    """Groups of parameters by weight decay and by ``lr_scale``, a factor of the learning rate.

    Norms and biases, which have one dimension, get no weight decay. ``lr_scale`` is ``head_lr_scale`` for the head, and
    falls by the factor ``layer_decay`` from each block to the one before it (``blocks_of``).
    """
    block_of = blocks_of(module) if recipe.layer_decay < 1 else {}
    last, head = max(block_of.values(), default=0), head_of(module)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {(recipe.weight_decay, 1.0): [], (0.0, 1.0): []}
    for name, parameter in module.named_parameters():
        scale = recipe.layer_decay ** (last - block_of.get(name, last))
        scale *= recipe.head_lr_scale if in_head(name, head) else 1
        groups.setdefault((recipe.weight_decay if parameter.ndim > 1 else 0.0, scale), []).append(parameter)
    return [
        {"params": parameters, "weight_decay": weight_decay, "lr_scale": scale}
        for (weight_decay, scale), parameters in groups.items()
        if parameters
    ]


def build_optimizer(module: nn.Module, recipe: Recipe, device: torch.device) -> torch.optim.Optimizer:
    """Builds adam, adamw or sgd (with Nesterov momentum), in torch's fused version on CPU and CUDA, or one of timm's.

    Raises FoldwiseError for an optimizer that timm does not know, or that needs a package or device that is not there.
    """
    groups = parameter_groups(module, recipe)
    fused = device.type in ("cpu", "cuda")
    if recipe.optimizer.startswith(TIMM):
        name = recipe.optimizer.removeprefix(TIMM)
        if name not in list_optimizers():
            raise InputError(f"unknown optimizer '{recipe.optimizer}'{suggestion(name, list_optimizers())}")
        try:
            return create_optimizer_v2(groups, name, recipe.lr, momentum=recipe.momentum)
        except (ImportError, AssertionError, RuntimeError, TypeError, ValueError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise InputError(f"the optimizer '{recipe.optimizer}' cannot be used here: {reason}") from error
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, recipe.lr, momentum=recipe.momentum, nesterov=recipe.momentum > 0, fused=fused)
    kind = torch.optim.AdamW if recipe.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, recipe.lr, fused=fused)


def lr_at(step: int, steps_per_epoch: int, recipe: Recipe) -> float:
    """Learning rate of a step: linear warm-up, then a half cosine to 0 (Loshchilov & Hutter, 2017) or constant."""
    total_steps = recipe.epochs * steps_per_epoch
    warmup_steps = min(recipe.warmup_epochs * steps_per_epoch, total_steps / 2)
    if step < warmup_steps:
        return recipe.lr * (step + 1) / (warmup_steps + 1)
    if recipe.schedule == "constant":
        return recipe.lr
    share = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return recipe.lr * 0.5 * (1 + math.cos(math.pi * share))


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Sets the learning rate of each parameter group to ``lr`` times its ``lr_scale``."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]
