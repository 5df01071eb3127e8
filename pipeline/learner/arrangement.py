"""Chooses how a fold is computed: device, threads, memory layout, dtype, and how many parts a batch is split into.

The rules depend only on the device, the sizes and the amount of work, never on timings, since each choice changes the
last bits of a result. A fold records its arrangement before the first step and keeps it when it is resumed.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

from pipeline.learner.device import Arrangement, Precision, choose_workers
from pipeline.learner.inputs import Normalize
from pipeline.learner.optimizer import build_optimizer
from pipeline.learner.ranks import ALONE, Ranks, join_ranks
from pipeline.pixels.preprocessing import Preprocessing
from pipeline.records.command_line import Machine
from pipeline.records.job import Job
from pipeline.records.recipe import Recipe
from pipeline.system.console import say
from pipeline.system.errors import MachineError, count_of
from pipeline.system.files import read_json, write_json
from pipeline.system.threads import cores

#: Number of training pixels (epochs x images x image pixels) from which compiling the model for a GPU saves time;
#: compiling takes about a minute.
COMPILE_FROM = 500_000 * 224 * 224
#: Types of devices on which a batch is split into smaller parts if it does not fit into memory.
SPLIT_BATCH_ON = ("cuda",)


def parts_that_fit(attempt: Callable[[int], None], parts: int, batch_size: int) -> int:
    """Doubles ``parts`` until ``attempt(parts)`` no longer runs out of memory; returns the new number.

    The batch of an optimizer step stays the same. Raises FoldwiseError if even a single image does not fit.
    """
    while True:
        try:
            attempt(parts)
            return parts
        except torch.OutOfMemoryError as error:
            if parts >= batch_size:
                raise MachineError(
                    "the memory of the GPU is too small for one image at a time; use a smaller image_size or model, "
                    "or stop other programs on the GPU"
                ) from error
        parts = min(2 * parts, batch_size)
        torch.cuda.empty_cache()


def try_step(module: nn.Module, recipe: Recipe, precision: Precision, batch_size: int, parts: int) -> None:
    """Runs a complete training step, including the optimizer, on a copy of the module and black images.

    The module does not change. Because of the copy of the weights, this needs slightly more memory than a real step.
    """
    trial = copy.deepcopy(module).train()
    optimizer = build_optimizer(trial, recipe, precision.device)
    inputs = torch.zeros((batch_size, 3, *recipe.size), device=precision.device)
    for part in inputs.chunk(parts):
        with precision.autocast():
            loss = trial(part).float().mean()
        loss.backward()
    optimizer.step()


def choose_arrangement(
    recipe: Recipe, device: torch.device, machine: Machine, num_images: int, ranks: Ranks = ALONE
) -> Arrangement:
    """The arrangement that the rules give for a recipe with ``num_images`` train images per epoch.

    The threads of ``machine``, or all cores, are divided among the ranks on this machine. bfloat16 is used with CUDA
    only: on a CPU without AMX it is slower than float32.
    """
    dtype = torch.float32
    if device.type == "cuda" and recipe.amp != "off":
        # Cards before Ampere, such as T4 and V100, only emulate bfloat16, several times slower than float16.
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        wants_bf16 = recipe.amp == "bf16" or (recipe.amp == "auto" and has_bf16)
        dtype = torch.bfloat16 if wants_bf16 else torch.float16
    threads = min(machine.threads or torch.get_num_threads(), cores())
    if ranks.local_size > 1:
        threads = max(1, (machine.threads or cores()) // ranks.local_size)
    return Arrangement(
        threads=threads,
        channels_last=device.type != "mps",
        dtype=str(dtype).removeprefix("torch."),
        compiled=device.type == "cuda" and recipe.epochs * num_images * math.prod(recipe.size) >= COMPILE_FROM,
        parts=recipe.accumulate,
        deterministic=machine.deterministic,
        ranks=ranks.size,
    )


def settle_arrangement(
    record: Path, chosen: Arrangement, recipe: Recipe, num_images: int, device: torch.device, module: nn.Module
) -> Arrangement:
    """The recorded arrangement, if the fold was started on the same type of device with the same number of ranks.

    Otherwise the chosen arrangement, with batches in parts that fit into the GPU's memory; this is then recorded.
    """
    if record.exists():
        begun = read_json(record, "device", *chosen.as_dict())
        if (begun.pop("device"), begun["ranks"]) == (device.type, chosen.ranks):
            return Arrangement(**begun)
        now = f"{count_of(chosen.ranks, 'process')} on {device.type}"
        say("train", f"note: the fold was not started with {now}; the last bits of its result may differ")
    if device.type in SPLIT_BATCH_ON and recipe.kind == "network":
        batch_size = -(-min(recipe.batch_size, num_images) // chosen.ranks)
        attempt = partial(try_step, module.to(device), recipe, Precision(chosen, device), batch_size)
        chosen = replace(chosen, parts=parts_that_fit(attempt, chosen.parts, batch_size))
        if chosen.parts > recipe.accumulate:
            say("train", f"note: to fit the GPU's memory, each batch goes through the model in {chosen.parts} parts")
    write_json(record, {"device": device.type, **chosen.as_dict()})
    return chosen


@dataclass(frozen=True)
class Compute:
    """How this process computes.

    device: where the model runs
    arrangement: threads, memory layout, dtype and the other choices
    ranks: this process among the processes of its fold
    """

    device: torch.device
    arrangement: Arrangement
    ranks: Ranks = ALONE

    @property
    def precision(self) -> Precision:
        """Autocast and loss scaling."""
        return Precision(self.arrangement, self.device)

    def place(self, module: nn.Module) -> nn.Module:
        """Moves the module to the device, in the arrangement's memory layout."""
        return self.arrangement.place(module, self.device)

    def normalize(self, preprocessing: Preprocessing) -> Normalize:
        """The normalisation module on the device, with output in the arrangement's memory layout."""
        return Normalize(preprocessing, self.arrangement.channels_last).to(self.device)

    def workers(self, asked: int | None, cached: bool) -> int:
        """Number of loader processes; see ``choose_workers``."""
        return choose_workers(asked, self.device, cached, self.arrangement.threads)


@contextmanager
def computing(job: Job, num_images: int) -> Iterator[Compute]:
    """Joins the ranks and yields how the job is computed; ``num_images``: train images per epoch, 0 for prediction."""
    with join_ranks(job.machine.device) as (ranks, device):
        yield Compute(device, choose_arrangement(job.recipe, device, job.machine, num_images, ranks), ranks)
