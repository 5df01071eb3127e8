"""Saves a fold during training, and ends the training when it is asked to stop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline.learner.checkpoint import Checkpoints
from pipeline.learner.divergence import require_finite
from pipeline.learner.ranks import Ranks
from pipeline.learner.training import Training
from pipeline.records.names import fold_name
from pipeline.system.signals import Stop

#: Number of steps between two checks of the losses. A check waits for the device.
CHECK_EVERY = 50


@dataclass(frozen=True)
class FoldStore:
    """Where a fold is saved during training, and what can stop it.

    fold: number of the fold
    folder: ``runs/<run>/fold<k>``
    checkpoints: those in the folder
    stop: notes that a signal or the clock asks the training to stop
    image_ids: (N,) image_id of each train row, for error messages
    """

    fold: int
    folder: Path
    checkpoints: Checkpoints
    stop: Stop
    image_ids: list[str]


class Saver:
    """Saves the training when a checkpoint is due. If a signal, the clock or another rank asks, saves it and stops.

    lr_of: function from a step, from 0, to its learning rate
    total: number of steps of the whole training
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
        # All ranks must save and stop at the same step, so all act if any of them is due or asked to stop.
        is_due, stopping = self.ranks.any_rank(self.store.checkpoints.is_due(end_of_epoch), stop.asked)
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
            stop.leave(f"{fold_name(self.store.fold)} is saved after step {checkpoints.saved_step:,} of {self.total:,}")
