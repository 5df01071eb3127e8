"""The memory of a GPU: in how many parts a batch must pass through the model to fit it."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import nn

from pipeline.learner.device import Precision
from pipeline.learner.optim import build_optimizer
from pipeline.records.errors import FoldwiseError
from pipeline.records.recipe import Recipe


def parts_that_fit(attempt: Callable[[int], None], parts: int, batch_size: int) -> int:
    """``parts``, doubled until ``attempt(parts)`` does not run out of memory any more.

    The batch that the optimizer sees stays the same. Raises FoldwiseError where not even single images fit.
    """
    while True:
        try:
            attempt(parts)
            return parts
        except torch.OutOfMemoryError as error:
            if parts >= batch_size:
                raise FoldwiseError(
                    "the memory of the GPU is too small for one image at a time; take a smaller image_size or model, "
                    "or end what else runs there"
                ) from error
        parts = min(2 * parts, batch_size)
        torch.cuda.empty_cache()


def try_step(module: nn.Module, recipe: Recipe, precision: Precision, batch_size: int, parts: int) -> None:
    """A whole step of a copy of the module on black images, optimizer and all: it changes nothing, and takes a little
    more memory than a real step, by that of the weights."""
    trial = copy.deepcopy(module).train()
    optimizer = build_optimizer(trial, recipe, precision.device)
    inputs = torch.zeros((batch_size, 3, recipe.image_size, recipe.image_size), device=precision.device)
    for part in inputs.chunk(parts):
        with precision.autocast():
            loss = trial(part).float().mean()
        loss.backward()
    optimizer.step()
