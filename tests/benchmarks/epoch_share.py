"""Trains four epochs of ResNet-18 at 64 px on one core and tells, as JSON, the seconds of the last three and those of
them that were not the model's: batches, normalising, metrics, and the checkpoints that a fold makes in that time.
bench.py runs it in a process of its own."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pipeline.train
from pipeline.learner.checkpoint import Checkpoints
from pipeline.learner.inputs import Normalize
from pipeline.learner.training_log import TrainingLog

spent = 0.0


def counted(function: Callable) -> Callable:
    """The function, with its seconds added to those spent outside the model."""

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        global spent
        began = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            spent += time.perf_counter() - began

    return wrapped


def counted_batches(function: Callable) -> Callable:
    """The function that yields batches, with the waiting for them counted."""

    def wrapped(*args: Any) -> Iterator:
        batches = function(*args)
        following = counted(lambda: next(batches, None))
        while (batch := following()) is not None:
            yield batch

    return wrapped


def main() -> None:
    pipeline.train.on_device = counted_batches(pipeline.train.on_device)
    pipeline.train.seed_torch = counted(pipeline.train.seed_torch)
    Normalize.forward = counted(Normalize.forward)  # type: ignore[method-assign]
    TrainingLog.add = counted(TrainingLog.add)  # type: ignore[method-assign]
    ends: list[tuple[float, float]] = []

    def save_and_note(*args: Any) -> None:
        save(*args)
        ends.append((time.perf_counter(), spent))

    save = counted(Checkpoints.save)
    Checkpoints.save = save_and_note  # type: ignore[assignment, method-assign]
    settings = ["epochs=4", "start_scale=1", "seed=99"]
    sys.argv = ["train", "--competition", sys.argv[1], "--recipe", "resnet18_sprint", "--fold", "0", "--threads", "1"]
    sys.argv += ["--set", *settings]
    pipeline.train.main()
    (began, before), (ended, after) = ends[0], ends[-1]
    print(json.dumps({"all": ended - began, "other": after - before}))


if __name__ == "__main__":
    main()
