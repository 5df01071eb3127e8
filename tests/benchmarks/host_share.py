"""Times what the training loop adds on the host to model, loss, backward pass and optimizer, in microseconds a step.

    python -m tests.benchmarks.host_share

On a GPU this part decides how fast small steps are: while the host prepares and starts the work of a step, the GPU
waits. Here it is measured on the CPU: a stub with the tensors of ResNet-18, whose forward pass is one small product, on
batches of 64 images of 4 px, which are cropped as on a GPU. A plain loop with the same stub is measured in the same
run, in turns; the difference is what is told. Only the time that the main thread works counts, not its waiting for
loader processes. The work that a GPU would do is then small, but not zero. What takes one operation on a GPU and 122 on
a CPU, to update the moving average of all weights, is done for one weight only.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from pipeline.learner import fold_data
from pipeline.learner.models import build_model
from pipeline.learner.networks import REGISTERED, Registered
from pipeline.learner.optimizer import build_optimizer
from pipeline.learner.resident import ResidentLoader
from pipeline.pixels.preprocessing import IMAGENET
from pipeline.records.command_line import Machine
from pipeline.records.job import Job
from pipeline.system import places
from tests.gpu.here import Here
from tests.gpu.rates import Clock, Endless, Enough, job_for, run_loop
from tests.gpu.waves import draw_waves

#: Turns of both loops, and seconds of each.
TURNS, SECONDS = 7, 1.5


class Stub(nn.Module):
    """The weights and buffers of ResNet-18, and a linear layer on the mean of the image, which alone is used."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.body = REGISTERED["foldwise/resnet18"].build(num_classes, width=4)
        self.head = nn.Linear(3, num_classes)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.head(inputs.mean((2, 3)))


def plain_seconds(job: Job) -> float:
    """Seconds of a step of model, loss, backward pass and optimizer alone."""
    cpu = torch.device("cpu")
    module = build_model(job.recipe, 4).module
    optimizer, clock = build_optimizer(module, job.recipe, cpu), Clock(cpu, SECONDS, time.thread_time)
    inputs, targets = torch.randn(64, 3, 4, 4), torch.eye(4)[torch.randint(4, (64,))]
    try:
        while True:
            clock.tick()
            nn.functional.cross_entropy(module(inputs), targets).backward()
            optimizer.step()
            optimizer.zero_grad()
    except Enough:
        return clock.step_seconds


def loop_seconds(job: Job) -> float:
    """Seconds of a step of the training loop."""
    clock = Clock(torch.device("cpu"), SECONDS, time.thread_time)
    run_loop(job, lambda real: Endless(real, clock.tick))
    return clock.step_seconds


def of_one(update: Callable) -> Callable:
    """An update of lists of tensors, done for the first tensors only."""
    return lambda means, values, **more: update(means[:1], values[:1], **more)


def main() -> None:
    torch.set_num_threads(1)
    torch._foreach_lerp_, torch._foreach_copy_ = of_one(torch._foreach_lerp_), of_one(torch._foreach_copy_)
    REGISTERED["stub"] = Registered(Stub, IMAGENET)
    kept: Callable = lambda dataset, order, workers, device, room: ResidentLoader(dataset, order, workers, device)  # noqa: E731
    fold_data.train_batches = kept
    with tempfile.TemporaryDirectory() as folder:
        here = Here("cpu", True, Path(folder))
        draw_waves(here.root / "data" / "wave", 1280, 8, 16)
        here.run("pipeline", "folds", "COMPETITION=wave")
        places.ROOT = here.root
        job = job_for("stub", 4, 64, ["ema_decay=0.99"], Machine(device="cpu", workers=1, threads=1))
        added = []
        for _ in range(TURNS):
            added.append(1e6 * (loop_seconds(job) - plain_seconds(job)))
    middle, spread = statistics.median(added), max(added) - min(added)
    print(f"the loop adds {middle:.0f} us to a step (median of {TURNS} turns, which span {spread:.0f} us)")


if __name__ == "__main__":
    main()
