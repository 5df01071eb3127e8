"""Probabilities from a trained module: one function for validation, out-of-fold and test rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from pipeline.learner.device import Precision
from pipeline.pixels.dataset import Loader

#: The symmetries of a competition on inputs (B, 3, S, S).
TURNS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "hflip": lambda inputs: inputs.flip(-1),
    "vflip": lambda inputs: inputs.flip(-2),
    "rot90": lambda inputs: inputs.rot90(1, (-2, -1)),
    "transpose": lambda inputs: inputs.transpose(-2, -1),
}
View = tuple[str, ...]  # symmetries one after another; () is the picture itself


def tta_views(symmetries: Sequence[str]) -> list[View]:
    """All different pictures that the symmetries make of one: 2 for hflip, 8 for hflip with rot90."""
    probe = torch.arange(4).view(2, 2)  # four corners tell all eight apart
    views: list[View] = [()]
    seen = [probe]
    for view in views:  # grows while it is walked, until every product is known
        for name in symmetries:
            turned = apply_view(probe, (*view, name))
            if not any(torch.equal(turned, other) for other in seen):
                seen.append(turned)
                views.append((*view, name))
    return views


def apply_view(inputs: torch.Tensor, view: View) -> torch.Tensor:
    """Inputs under one view."""
    for name in view:
        inputs = TURNS[name](inputs)
    return inputs


@torch.inference_mode()
def predict_probs(
    module: nn.Module, normalize: nn.Module, loader: Loader, views: Sequence[View], precision: Precision
) -> np.ndarray:
    """Class probabilities (N, C) float32 of the loader's rows, by position: softmax, then the mean over views."""
    module.eval()
    rows_seen, probs_seen = [], []
    for images, rows in loader.epoch():
        inputs = normalize(images.to(precision.device, non_blocking=True))
        with precision.autocast():
            views_probs = [module(apply_view(inputs, view)).float().softmax(dim=1) for view in views]
        probs_seen.append(torch.stack(views_probs).mean(dim=0))
        rows_seen.append(rows)
    probs = torch.cat(probs_seen).cpu().numpy()
    ordered = np.empty_like(probs)
    ordered[torch.cat(rows_seen).numpy()] = probs
    return ordered
