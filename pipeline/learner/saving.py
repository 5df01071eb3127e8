"""When a fold in training is saved, and how it ends when it is asked to stop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline.learner.checkpoint import Checkpoints
from pipeline.learner.divergence import require_finite
from pipeline.learner.ranks import Ranks
from pipeline.learner.training import Training
from pipeline.system.signals import Stop

#: Steps between two checks of the losses, which are on the device: a check waits for it.
CHECK_EVERY = 50


@dataclass(frozen=True)
class FoldStore:
    """Where a fold in training is kept.

    fold: its number
    folder: ``runs/<run>/fold<k>``
    checkpoints: those in the folder
    stop: who can ask the training to stop: a signal or the clock
    image_ids: (N,) of the train rows, to name them
    """

    fold: int
    folder: Path
    checkpoints: Checkpoints
    stop: Stop
    image_ids: list[str]


class Saver:
    """Saves a training when it is time, and stops it, saved, when a signal, the clock or another rank asks.

    lr_of: learning rate of a step, from 0. total: number of steps of the whole training.
    """

    def __init__(
        self, training: Training, store: FoldStore, ranks: Ranks, lr_of: Callable[[int], float], total: int
    ) -> None:
        self.training, self.store, self.ranks = training, store, ranks
        self.lr_of, self.total = lr_of, total

    def check(self) -> None:
        """Raises FoldwiseError if a loss or a weight is NaN or infinite. Waits for the device."""
        require_finite(self.training, self.store.image_ids, self.lr_of, self.store.folder)

    def save(self) -> None:
        """Checks the training, and writes a checkpoint unless this step has one."""
        self.check()
        if self.store.checkpoints.saved_step != self.training.step:
            self.store.checkpoints.save(self.training)

    def after_step(self, end_of_epoch: bool) -> None:
        """Saves if a checkpoint is due or the training ends; if asked to stop, saves and raises Stopped."""
        step, stop = self.training.step, self.store.stop
        # All ranks save and stop at the same step: whatever one of them has noticed counts for all.
        is_due, stopping = self.ranks.any(self.store.checkpoints.is_due(end_of_epoch), stop.asked)
        if is_due or stopping or step == self.total:
            self.save()
        elif step % CHECK_EVERY == 0:
            self.check()
        if stopping:
            stop.ask(*self.ranks.gather(stop.reason))
            self.stop_if_asked()

    def stop_if_asked(self) -> None:
        """If asked to stop, saves and raises Stopped; also called between two batches of validation."""
        stop, checkpoints = self.store.stop, self.store.checkpoints
        if stop.asked:
            self.save()
            stop.leave(f"fold {self.store.fold} is saved after step {checkpoints.saved_step:,} of {self.total:,}")
