"""Times training steps: those of the training loop of pipeline/train.py, and those of a plain loop, in one process.

The loop is the real one: it gets batches without end and is stopped after a time. The plain loop is what a notebook
would have: a torchvision model, channels last, autocast, cross entropy and a fused AdamW, on one batch that does not
change.
"""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import count
from pathlib import Path

import torch
import torchvision
from torch import nn

import pipeline.train
from pipeline.learner.arrangement import computing
from pipeline.learner.checkpoint import Checkpoints
from pipeline.learner.device import find_device
from pipeline.learner.fold_data import load_data
from pipeline.learner.models import build_model
from pipeline.learner.saving import CHECK_EVERY, FoldStore
from pipeline.pixels.dataset import Batch, Batches
from pipeline.records.command_line import Machine
from pipeline.records.job import Job, make_job
from pipeline.records.runs import open_run
from pipeline.system.signals import Stop

#: What torch warns of at each hidden wait. (Another warning says that it may miss some.)
WAITED = "called a synchronizing CUDA operation"
#: Steps before the time counts.
WARM_UP = 5


class Enough(Exception):
    """Ends the training loop when its time is over."""


def wait(device: torch.device) -> None:
    """Waits until the device has done all its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Clock:
    """Counts steps: ``tick`` is called before each; it raises Enough when the seconds since the warm-up are over.

    timer: the seconds by the clock, or those that this thread worked, without waiting (time.thread_time)
    """

    def __init__(self, device: torch.device, seconds: float, timer: Callable[[], float] = time.perf_counter) -> None:
        self.device, self.seconds, self.timer = device, seconds, timer
        self.steps, self.began, self.spent = 0, 0.0, 0.0

    def tick(self) -> None:
        if self.steps == WARM_UP:
            wait(self.device)
            self.began = self.timer()
        elif self.steps > WARM_UP and self.timer() - self.began > self.seconds:
            wait(self.device)
            self.spent = self.timer() - self.began
            raise Enough
        self.steps += 1

    @property
    def step_seconds(self) -> float:
        """Seconds of a step."""
        return self.spent / max(1, self.steps - WARM_UP)


class Endless:
    """Batches without end: those of a source epoch by epoch, or always the same one. Ends as ``tick`` says."""

    def __init__(self, source: Batches, tick: Callable[[], object], always_the_first: bool = False) -> None:
        self.source, self.tick, self.always_the_first = source, tick, always_the_first

    def __len__(self) -> int:
        return 10**6

    def epoch(self, epoch: int = 0, start: int = 0) -> Iterator[Batch]:
        """Yields (images, rows)."""
        first = None
        for number in count():
            for batch in [first] if first else self.source.epoch(number):
                self.tick()
                yield batch
                if self.always_the_first and first is None:
                    first = batch
                    break


def job_for(model: str, side: int, batch_size: int, more: list[str], machine: Machine) -> Job:
    """A job on the made-up photographs."""
    settings = [f"model={model}", f"image_size={side}", f"batch_size={batch_size}", "epochs=2", *more]
    return make_job("wave", "resnet18_sprint", settings, "0", machine=machine)


def run_loop(job: Job, batches: Callable[[Batches], Batches], keep: bool = True) -> None:
    """The training loop on the batches that the function makes of the real ones; it must end by Enough.

    keep: False to keep no images in the memory of the device
    """
    with computing(job, 10**5) as compute, tempfile.TemporaryDirectory() as folder, Stop() as stop:
        arrangement = replace(compute.arrangement, kept_bytes=2**34 if keep else 0)
        compute = replace(compute, arrangement=arrangement)
        network = build_model(job.recipe, 4)
        data = load_data(job, open_run(job), 0, network, compute)
        data = replace(data, train=batches(data.train))
        module, normalize = compute.place(network.module), compute.normalize(network.preprocessing)
        store = FoldStore(0, Path(folder), Checkpoints(Path(folder) / "checkpoints", {}), stop, data.train_images.ids)
        with suppress(Enough):
            pipeline.train.train_fold(job, module, normalize, data, compute, store)


def ours(job: Job, seconds: float, synthetic: bool, keep: bool = True) -> float:
    """Images/s of the training loop, with real batches, or with one batch on the device that stays the same."""
    device = find_device(job.machine.device)
    clock = Clock(device, seconds)
    run_loop(job, lambda real: Endless(OnTheDevice(real, device) if synthetic else real, clock.tick, synthetic), keep)
    return job.recipe.batch_size / clock.step_seconds


class OnTheDevice:
    """Batches whose images are on the device before the loop gets them."""

    def __init__(self, batches: Batches, device: torch.device) -> None:
        self.batches, self.device = batches, device

    def __len__(self) -> int:
        return len(self.batches)

    def epoch(self, epoch: int = 0, start: int = 0) -> Iterator[Batch]:
        """Yields (images, rows)."""
        return ((images.to(self.device), rows) for images, rows in self.batches.epoch(epoch, start))


def plain(model: str, side: int, batch_size: int, seconds: float, machine: Machine) -> float:
    """Images/s of the plain loop."""
    device = find_device(machine.device)
    torch.manual_seed(0)
    module = torchvision.models.get_model(model, num_classes=4).to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(module.parameters(), 1e-3, weight_decay=0.05, fused=True)
    images = torch.randn(batch_size, 3, side, side, device=device).to(memory_format=torch.channels_last)
    labels = torch.randint(0, 4, (batch_size,), device=device)
    clock = Clock(device, seconds)
    try:
        while True:
            clock.tick()
            optimizer.zero_grad()
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                loss = nn.functional.cross_entropy(module(images).float(), labels)
            loss.backward()
            optimizer.step()
    except Enough:
        return batch_size / clock.step_seconds


def hidden_waits(job: Job) -> list[str]:
    """The lines of code at which a step waits for the GPU, between two checks for NaN; [] on a CPU."""
    steps = count(1)

    def tick() -> None:
        step = next(steps)
        if step == WARM_UP and torch.cuda.is_available():
            torch.cuda.set_sync_debug_mode("warn")
        if step == CHECK_EVERY - 1:
            if torch.cuda.is_available():
                torch.cuda.set_sync_debug_mode("default")
            raise Enough

    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        run_loop(job, lambda real: Endless(real, tick))
    return sorted({f"{Path(each.filename).name}:{each.lineno}" for each in found if WAITED in str(each.message)})
