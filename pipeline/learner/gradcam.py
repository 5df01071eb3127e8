"""Grad-CAM: heat maps that show where in an image a network sees a class.

Legend: B batch, C channels, S image side; maps (B, C, H, W).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn


def last_map_layer(module: nn.Module, inputs: torch.Tensor) -> str | None:
    """Name of the last submodule that returns maps (B, C, H, W) with a height and a width above 1.

    None for a network without such maps, such as a plain vision transformer.
    """
    seen: list[str] = []

    def hook(name: str) -> torch.utils.hooks.RemovableHandle:
        def note(_part: nn.Module, _inputs: object, maps: object) -> None:
            if isinstance(maps, torch.Tensor) and maps.ndim == 4 and min(maps.shape[2:]) > 1:
                seen.append(name)

        return module.get_submodule(name).register_forward_hook(note)

    handles = [hook(name) for name, _ in module.named_modules() if name]
    with torch.no_grad():
        module(inputs)
    for handle in handles:
        handle.remove()
    return seen[-1] if seen else None


def grad_cam(module: nn.Module, inputs: torch.Tensor, position: int) -> np.ndarray | None:
    """Heat map (S, S) in 0..1 of one image (1, 3, S, S) for the class at ``position``; None for a network without maps.

    It is the sum of the last maps, each weighted by its effect on the logit of the class, which is the mean gradient
    (Grad-CAM: Selvaraju et al., 2017).
    """
    name = last_map_layer(module, inputs)
    if name is None:
        return None
    kept: list[torch.Tensor] = []
    handle = module.get_submodule(name).register_forward_hook(lambda _part, _inputs, maps: kept.append(maps))
    with torch.enable_grad():
        logit = module(inputs)[0, position]
    handle.remove()
    gradients = torch.autograd.grad(logit, kept[-1])[0]
    weighted = (gradients.mean((2, 3), keepdim=True) * kept[-1]).sum(1, keepdim=True).relu().detach().float()
    heat = nn.functional.interpolate(weighted, inputs.shape[2:], mode="bilinear", align_corners=False)[0, 0]
    return (heat / heat.max().clamp_min(1e-12)).cpu().numpy()
