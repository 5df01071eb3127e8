"""Chooses how a fold is computed: device, threads, memory layout, dtype, and how many parts a batch is split into.

The rules depend on the device, its memory, the sizes and the amount of work, never on timings, since each choice
changes the last bits of a result. A fold records its arrangement before the first step and keeps it when it is resumed.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipeline.learner.compiling import compiled, is_compiler_error, reason_of, why_not_compiled
from pipeline.learner.device import Arrangement, Precision, choose_workers
from pipeline.learner.inputs import Normalize
from pipeline.learner.memory import bytes_to_keep, limit_memory, parts_that_fit
from pipeline.learner.optimizer import build_optimizer
from pipeline.learner.ranks import ALONE, Ranks, join_ranks
from pipeline.pixels.preprocessing import Preprocessing
from pipeline.records.command_line import Machine
from pipeline.records.job import Job
from pipeline.records.recipe import Recipe
from pipeline.system.console import say
from pipeline.system.errors import count_of, is_out_of_memory
from pipeline.system.files import read_json, write_json
from pipeline.system.threads import cores

#: Number of training pixels (epochs x images x image pixels) from which compiling the model for a GPU saves time;
#: compiling takes about a minute.
COMPILE_FROM = 500_000 * 224 * 224
#: Types of devices on which training steps are compiled, and on which a batch is split into smaller parts if it does
#: not fit into memory.
COMPILE_ON = SPLIT_BATCH_ON = ("cuda",)


def try_step(module: nn.Module, recipe: Recipe, arrangement: Arrangement, batch_size: int, parts: int) -> None:
    """Runs a complete training step, including the optimizer, on a copy of the module and black images.

    The module does not change. Because of the copy of the weights, this needs slightly more memory than a real step.
    """
    device = next(module.parameters()).device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)  # what an attempt that failed took does not count
    layout = torch.channels_last if arrangement.channels_last else torch.contiguous_format
    size = max(map(recipe.size_at, range(recipe.epochs)), key=math.prod)
    trial = copy.deepcopy(module).train()
    optimizer, precision = build_optimizer(trial, recipe, device), Precision(arrangement, device)
    forward = compiled(trial, recipe) if arrangement.compiled else trial
    for part in torch.arange(batch_size).chunk(parts):
        images = torch.zeros((len(part), 3, *size), device=device).to(memory_format=layout)
        with precision.autocast():
            loss = forward(images).float().mean()
        loss.backward()
    optimizer.step()


def without_compiling(chosen: Arrangement, reason: str) -> Arrangement:
    """The arrangement without compiling; a note says the reason."""
    say("train", f"note: the model is not compiled, and trains more slowly: {reason}")
    return replace(chosen, compiled=False)


def compiled_if_possible(chosen: Arrangement) -> Arrangement:
    """The arrangement, but without compiling if this machine lacks a compiler."""
    reason = why_not_compiled() if chosen.compiled else ""
    return without_compiling(chosen, reason) if reason else chosen


def tried(chosen: Arrangement, recipe: Recipe, module: nn.Module, batch_size: int) -> Arrangement:
    """The arrangement with which a training step runs here: compiled or not, and in parts that fit.

    A note says if a compiler is missing or fails, or if the batch needs parts. Only what fits is compiled, since that
    takes a minute.
    """
    chosen = compiled_if_possible(chosen)
    eager = replace(chosen, compiled=False)
    parts = parts_that_fit(partial(try_step, module, recipe, eager, batch_size), chosen.parts, batch_size)
    if chosen.compiled:
        try:
            parts = parts_that_fit(partial(try_step, module, recipe, chosen, batch_size), parts, batch_size)
        except RuntimeError as error:
            if not is_compiler_error(error):
                raise
            chosen = without_compiling(chosen, reason_of(error))
    if parts > recipe.accumulate:
        say("train", f"note: to fit the GPU's memory, each batch goes through the model in {parts} parts")
    return replace(chosen, parts=parts)


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
        compiled=device.type in COMPILE_ON and recipe.epochs * num_images * math.prod(recipe.size) >= COMPILE_FROM,
        parts=recipe.accumulate,
        deterministic=machine.deterministic,
        ranks=ranks.size,
    )


def settle_arrangement(
    record: Path, chosen: Arrangement, recipe: Recipe, num_images: int, device: torch.device, module: nn.Module
) -> Arrangement:
    """The recorded arrangement, if the fold was started on the same type of device with the same number of ranks.

    Otherwise the chosen arrangement, as far as a trial step shows that it works here; this is then recorded.
    """
    if record.exists():
        begun = read_json(record, "device", *(field.name for field in fields(chosen) if field.default is MISSING))
        begun.pop("eased_at", None)
        if (begun.pop("device"), begun["ranks"]) == (device.type, chosen.ranks):
            return compiled_if_possible(Arrangement(**begun))
        now = f"{count_of(chosen.ranks, 'process')} on {device.type}"
        say("train", f"note: the fold was not started with {now}; the last bits of its result may differ")
    if device.type in SPLIT_BATCH_ON and recipe.kind == "network":
        batch_size = -(-min(recipe.batch_size, num_images) // chosen.ranks)
        chosen = tried(chosen, recipe, chosen.place(module, device), batch_size)
    chosen = replace(chosen, kept_bytes=bytes_to_keep(device))
    write_json(record, {"device": device.type, **chosen.as_dict()})
    return chosen


def made_easier(record: Path, error: RuntimeError, batch_size: int, began: float) -> str:
    """Changes the recorded arrangement of a fold that ended with this error, so that it can go on.

    Returns what has changed, in words; "" if nothing can help.

    began: time at which this attempt began (seconds since 1970); if another rank has changed the arrangement since,
        that is enough

    The trial step may have found enough memory, and other programs may need some since: then no images stay on the
    device or, the next time, the batch goes in twice as many parts. If the compiler has failed, the model is no longer
    compiled.
    """
    if not record.exists():
        return ""
    begun: dict[str, Any] = read_json(record, "device", "compiled", "parts")
    if begun.get("eased_at", 0) > began:
        return "another process of this fold has changed how it is computed"
    change: dict[str, int]
    is_full = is_out_of_memory(error) and "CPUAllocator" not in str(error) and begun["device"] in SPLIT_BATCH_ON
    if begun["compiled"] and is_compiler_error(error) and not is_full:
        change, what = {"compiled": False}, f"the compiler failed ({reason_of(error)}); the model is no longer compiled"
    elif is_full and begun.get("kept_bytes"):
        change, what = {"kept_bytes": 0}, "the memory is full; no images stay on the GPU from now on"
    elif is_full and begun["parts"] < batch_size:
        change = {"parts": min(2 * begun["parts"], batch_size)}
        what = f"the memory is full; each batch now goes through the model in {change['parts']} parts"
    else:
        return ""
    write_json(record, {**begun, **change, "eased_at": time.time()})
    return what


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

    def replica(self, module: nn.Module, recipe: Recipe) -> nn.Module:
        """The module that the training loop calls: with the gradients of all ranks, and compiled if it is arranged so.

        Call this again when other weights start to learn.
        """
        replica = self.ranks.replicate(module)
        return compiled(replica, recipe) if self.arrangement.compiled else replica

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
        chosen = choose_arrangement(job.recipe, device, job.machine, num_images, ranks)
        # Before anything runs on the GPU: cuBLAS, for example, reads its setting when it starts.
        chosen.set_up()
        limit_memory(device)
        yield Compute(device, chosen, ranks)
