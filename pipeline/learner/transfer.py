"""Separates the head of a network from its backbone: loads weights into the backbone, freezes it, renews the head."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from pipeline.system.errors import InputError, count_of


def head_of(module: nn.Module) -> list[str]:
    """Names of the classifier layers: those of timm's configuration, else the last linear layer or convolution."""
    config: Any = getattr(module, "pretrained_cfg", {})
    if names := config.get("classifier"):
        return [names] if isinstance(names, str) else list(names)
    return [name for name, part in module.named_modules() if isinstance(part, nn.Linear | nn.Conv2d)][-1:]


def in_head(name: str, head: list[str]) -> bool:
    """True if a parameter or layer of this name is part of the head."""
    return any(name == layer or name.startswith(f"{layer}.") for layer in head)


def set_frozen(module: nn.Module, frozen: Callable[[str], bool], statistics: bool = False) -> None:
    """Sets train mode; the parameters for whose names ``frozen`` is true do not learn.

    They have no gradients, and their BatchNorms keep their statistics, so that a frozen part of the network stays
    bit-identical. With ``statistics``, all BatchNorms do.
    """
    module.train()
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(not frozen(name))
    for name, part in module.named_modules():
        if isinstance(part, _NormBase) and (statistics or frozen(f"{name}.weight")):
            part.eval()


def renew_head(module: nn.Module) -> None:
    """Draws new weights of the head, so small that the first loss is that of equal predictions, ln(C) for C classes.

    The head of timm's EfficientNet and MobileNet families would start with weights of up to 1 / sqrt(C) and a loss of
    several times that, which spoils the backbone in the first steps, and which a frozen backbone never makes up for.
    The standard deviation of a logit is about 0.01 for features of unit size.
    """
    head = head_of(module)
    for name, part in module.named_modules():
        if in_head(name, head) and isinstance(part, nn.Linear | nn.Conv2d):
            nn.init.normal_(part.weight, std=0.01 * part.weight[0].numel() ** -0.5)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


def load_backbone(state: dict[str, torch.Tensor], module: nn.Module, name: str, what: str) -> None:
    """Loads a state dict into the module, except for the head, which stays new.

    If the first convolution is for another number of channels, such as one for grey images, the sum of its weights over
    the channels is divided evenly among the module's channels. Raises FoldwiseError if anything else does not fit.
    """
    head = head_of(module)
    own = {key: value for key, value in module.state_dict().items() if not in_head(key, head)}
    state = {key: value for key, value in state.items() if not in_head(key, head)}
    first = next((key for key, value in own.items() if value.ndim == 4), "")
    if first in state and state[first].shape != own[first].shape and state[first].shape[2:] == own[first].shape[2:]:
        channels = own[first].shape[1]
        state[first] = state[first].sum(1, keepdim=True).expand(-1, channels, -1, -1) / channels
    faults = {
        "missing": [key for key in own if key not in state and not key.endswith("num_batches_tracked")],
        "unexpected": [key for key in state if key not in own],
        "of another shape": [key for key in state if key in own and state[key].shape != own[key].shape],
    }
    if any(faults.values()):
        found = [
            f"{count_of(len(keys), 'tensor')} {word}, such as '{keys[0]}'" for word, keys in faults.items() if keys
        ]
        raise InputError(f"{what} are of another architecture than model '{name}': {'; '.join(found)}")
    module.load_state_dict(state, strict=False)
