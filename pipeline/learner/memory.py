"""How a fold is computed, written down before its first step; and the memory of a GPU, in how many parts a batch must
pass through the model to fit it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

from pipeline.learner.device import Arrangement, Precision
from pipeline.learner.optim import build_optimizer
from pipeline.records.console import say
from pipeline.records.errors import FoldwiseError, count_of
from pipeline.records.files import read_json, write_json
from pipeline.records.recipe import Recipe

#: Kinds of devices whose memory a batch can overrun in a way that smaller parts mend.
SMALL_MEMORY = ("cuda",)


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


def arrange(
    record: Path, chosen: Arrangement, recipe: Recipe, num_images: int, device: torch.device, module: nn.Module
) -> Arrangement:
    """The arrangement that the fold was begun with, by its record, else the chosen one in parts that fit the memory,
    which is written down."""
    if record.exists():
        begun = read_json(record, "device", *chosen.as_dict())
        if (begun.pop("device"), begun["ranks"]) == (device.type, chosen.ranks):
            return Arrangement(**begun)
        now = f"{count_of(chosen.ranks, 'process')} on {device.type}"
        say("train", f"note: it was begun by another number of processes or kind of device than {now}: other last bits")
    if device.type in SMALL_MEMORY:
        batch_size = -(-min(recipe.batch_size, num_images) // chosen.ranks)
        attempt = partial(try_step, module.to(device), recipe, Precision(chosen, device), batch_size)
        chosen = replace(chosen, parts=parts_that_fit(attempt, chosen.parts, batch_size))
        if chosen.parts > recipe.accumulate:
            say("train", f"note: for the GPU's memory each batch goes through the model in {chosen.parts} parts")
    write_json(record, {"device": device.type, **chosen.as_dict()})
    return chosen
