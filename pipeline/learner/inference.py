"""Predicts with trained modules: one function for validation, out-of-fold and test rows.

Legend: N rows, C targets, B batch, S image side.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from pipeline.learner.arrangement import Compute
from pipeline.learner.memory import in_parts
from pipeline.learner.resident import on_device
from pipeline.pixels.dataset import Batches
from pipeline.records.job import Job
from pipeline.tasks.task import Task

#: The symmetries of competition.toml, as functions of inputs (B, 3, S, S).
SYMMETRIES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "hflip": lambda inputs: inputs.flip(-1),
    "vflip": lambda inputs: inputs.flip(-2),
    "rot90": lambda inputs: inputs.rot90(1, (-2, -1)),
    "transpose": lambda inputs: inputs.transpose(-2, -1),
}


class Model(NamedTuple):
    """A module, and the task that says what its logits mean, as it was fitted with the module."""

    module: nn.Module
    task: Task


View = tuple[str, ...]  # symmetries in the order in which they are applied; () is the original image


def tta_views(symmetries: Sequence[str]) -> list[View]:
    """All different views of an image that the symmetries give: 2 for hflip, 8 for hflip with rot90."""
    probe = torch.arange(4).view(2, 2)  # four different corners are enough to distinguish all eight views
    views: list[View] = [()]
    seen = [probe]
    for view in views:  # the list grows during the loop, until there are no new views
        for name in symmetries:
            turned = apply_view(probe, (*view, name))
            if not any(torch.equal(turned, other) for other in seen):
                seen.append(turned)
                views.append((*view, name))
    return views


def views_of(job: Job) -> list[View]:
    """The views of test-time augmentation that recipe and competition allow."""
    return tta_views(job.competition.symmetries if job.recipe.tta else [])


def apply_view(inputs: torch.Tensor, view: View) -> torch.Tensor:
    """Applies a view to inputs (B, 3, S, S)."""
    for name in view:
        inputs = SYMMETRIES[name](inputs)
    return inputs


class LayerTracer(fx.Tracer):
    """Traces a module down to its layers: also those of timm that are subclasses of torch's."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, nn.Conv2d | nn.BatchNorm2d) or super().is_leaf_module(m, module_qualified_name)


def fuse_batchnorm(module: nn.Module) -> nn.Module:
    """The module in eval mode, with each BatchNorm merged into the convolution before it (Jacob et al., 2018).

    The probabilities are the same up to rounding. The module itself does not change. A module that torch.fx cannot
    trace is returned as it is.
    """
    module.eval()
    try:
        graph = LayerTracer().trace(module)
    except (fx.proxy.TraceError, TypeError):
        return module
    fused = copy.deepcopy(module)
    layers = dict(fused.named_modules())
    calls = [node for node in graph.nodes if node.op == "call_module" and node.args]
    times = Counter(node.target for node in calls)
    for node in calls:
        before = node.args[0]
        if before not in calls or len(before.users) > 1 or times[node.target] > 1 or times[before.target] > 1:
            continue
        convolution, norm = layers[before.target], layers[node.target]
        if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d) and norm.track_running_stats:
            fused.set_submodule(before.target, fuse_conv_bn_eval(convolution, norm))
            # timm's BatchNormAct2d has an activation of its own.
            rest = [part for part in (getattr(norm, "drop", None), getattr(norm, "act", None)) if part is not None]
            fused.set_submodule(node.target, nn.Sequential(*rest))
    return fused


@torch.inference_mode()
def predict(
    models: Sequence[Model],
    normalize: nn.Module,
    loader: Batches,
    views: Sequence[View],
    compute: Compute,
) -> list[np.ndarray]:
    """Predictions (N, C) float32 of each model, by row of the loader, averaged over the views.

    One pass over the images is enough for all models and views. Each rank predicts its share of the batches; all ranks
    return all rows.
    """
    ranks, precision = compute.ranks, compute.precision
    for module, _ in models:
        module.eval()
        ranks.share_buffers(module)
    rows_seen, seen = [], []

    def of_images(images: torch.Tensor) -> torch.Tensor:
        """Predictions (B, K, C) of the K models."""
        inputs = normalize(images)
        pictures = [apply_view(inputs, view) for view in views]
        with precision.autocast():
            by_view = [[task.predictions(module(picture).float()) for picture in pictures] for module, task in models]
        return torch.stack([torch.stack(of_model).mean(dim=0) for of_model in by_view], dim=1)

    for images, rows in on_device(loader.epoch(), compute.device):
        seen.append(in_parts(of_images, images))
        rows_seen.append(rows)
    mine = (torch.cat(rows_seen).numpy(), torch.cat(seen).cpu().numpy()) if rows_seen else None
    gathered = [*filter(None, ranks.gather(mine))]
    if not gathered:
        return [np.empty((0, len(task.target_names)), np.float32) for _, task in models]
    rows_of_ranks, predictions_of_ranks = zip(*gathered, strict=True)
    by_row = np.concatenate(predictions_of_ranks)
    ordered = np.empty_like(by_row)
    ordered[np.concatenate(rows_of_ranks)] = by_row
    return list(ordered.swapaxes(0, 1))
