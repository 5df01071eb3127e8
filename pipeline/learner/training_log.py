"""Logs the training of a fold: log.csv, TensorBoard events, printed lines, and a picture of the curves."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

import pandas as pd
from torch.utils.tensorboard import SummaryWriter

from pipeline.learner.saving import FoldStore
from pipeline.pixels.pictures import save_curves
from pipeline.records.names import fold_name
from pipeline.records.tables import write_csv
from pipeline.system.console import duration, has_progress_view, progress, say
from pipeline.system.progress import Pace, forget_progress, write_progress

T = TypeVar("T")


class TrainingLog:
    """The log of a fold: epoch (from 1), lr, train_loss, train_score, val_loss, val_score, seconds.

    A training on all rows has no val_loss and val_score.

    history: a row for each finished epoch, with these columns
    writes: True if this rank prints and writes, which only the first rank does
    """

    def __init__(
        self, store: FoldStore, epochs: int, metric_name: str, history: list[dict], writes: bool = True
    ) -> None:
        self.folder, self.fold, self.epochs, self.metric_name = store.folder, store.fold, epochs, metric_name
        self.history = history
        self.began_with = len(history)
        self.began = self.last_printed = self.last_added = time.monotonic()
        self.writer = SummaryWriter(store.folder, purge_step=len(history) + 1) if writes else None
        self.pace: Pace | None = None

    def with_progress(self, batches: Iterable[T], steps: int, done: int) -> Iterator[T]:
        """Yields the remaining batches of an epoch of ``steps``, of which ``done`` are done, and shows the progress.

        The driver's view reads it from a file. Without that view, it is a bar in a terminal, or a line every minute.
        """
        epoch = len(self.history)
        self.pace = pace = self.pace or Pace(self.epochs * steps, epoch * steps + done)
        doing = f"{fold_name(self.fold)}, epoch {epoch + 1} of {self.epochs}"
        items = batches if has_progress_view() else progress(batches, steps - done, "train", doing, 60)
        for step, batch in enumerate(items, start=epoch * steps + done):
            if self.writer is not None and pace.is_due():
                last = self.history[-1] if self.history else {}
                loss = {"train loss": last.get("train_loss"), "validation loss": last.get("val_loss")}
                numbers = {"epoch": epoch + 1, "epochs": self.epochs, "step": step, "steps": pace.total}
                # The first steps give a poor estimate: no validation is done, and other folds may still be starting.
                can_estimate = len(self.history) > self.began_with or time.monotonic() - self.began > 20
                write_progress(self.folder, **numbers, **loss, left=pace.left(step) if can_estimate else None)
            yield batch

    def add(self, **row: float) -> None:
        """Adds an epoch; prints a line for the first and the last epoch, for others at most every ten seconds."""
        now = time.monotonic()
        self.history.append({"epoch": len(self.history) + 1, **row, "seconds": now - self.last_added})
        self.last_added = now
        if self.writer is None:
            return
        write_csv(self.folder / "log.csv", self.table)
        for name, value in row.items():
            self.writer.add_scalar(name, value, len(self.history))
        self.writer.flush()
        done = len(self.history)
        if has_progress_view():
            return
        if now - self.last_printed > 10 or done in (self.began_with + 1, self.epochs):
            self.last_printed = now
            left = (now - self.began) / (done - self.began_with) * (self.epochs - done)
            on_val = ""
            if "val_loss" in row:
                score = f", {self.metric_name} {row['val_score']:.4f}" if self.metric_name != "log_loss" else ""
                on_val = f", validation loss {row['val_loss']:.4f}{score}"
            say(
                "train",
                f"{fold_name(self.fold)}, epoch {done} of {self.epochs}: train loss {row['train_loss']:.4f}{on_val}, "
                f"{duration(left)} left",
            )

    @property
    def table(self) -> pd.DataFrame:
        """The log of all epochs."""
        return pd.DataFrame(self.history)

    def close(self, heading: str) -> None:
        """Draws curves.png, deletes the progress file and closes the events file."""
        if self.writer is None:
            return
        table = self.table
        panels = {"loss": {"train": table["train_loss"]}}
        if self.metric_name != "log_loss":  # the validation loss is the log loss
            panels[self.metric_name] = {"train, augmented": table["train_score"]}
        if "val_loss" in table:
            panels["loss"]["validation"] = table["val_loss"]
            if self.metric_name in panels:
                panels[self.metric_name]["validation"] = table["val_score"]
        panels["learning rate"] = {"lr": table["lr"]}
        save_curves(self.folder / "curves.png", table["epoch"].tolist(), panels, heading)
        forget_progress(self.folder)
        self.writer.close()
