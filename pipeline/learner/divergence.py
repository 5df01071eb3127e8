"""Detects NaN or infinite losses and weights before they are saved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from pipeline.learner.training import Training
from pipeline.system.errors import InputError
from pipeline.system.files import write_json
from pipeline.system.places import shown


def require_finite(training: Training, ids: list[str], lr_of: Callable[[int], float], folder: Path) -> None:
    """Raises FoldwiseError if a loss of this epoch, a weight or an averaged weight is NaN or infinite.

    The message gives the step and its learning rate; diverged.json lists the last two batches. Waits for the device.

    ids: image_id of each train row
    lr_of: function from a step, from 0, to its learning rate
    folder: where diverged.json is written
    """
    bad = training.first_bad_loss()
    if bad is None and training.weights_are_finite():
        return
    of_epoch = len(training.losses)
    last = of_epoch - 1 if bad is None else bad
    step = training.step - of_epoch + last
    batches = torch.cat(training.rows).view(of_epoch, -1)[max(0, last - 1) : last + 1].tolist()
    named = [[ids[row] for row in rows] for rows in batches]
    what = "a weight is NaN or infinite" if bad is None else f"the loss is {float(training.losses[bad])}"
    record = folder / "diverged.json"
    write_json(record, {"what": what, "step": step + 1, "lr": lr_of(step), "last_batches": named})
    raise InputError(
        f"{what} after step {step + 1:,} at lr = {lr_of(step):.2g}, on a batch with '{named[-1][0]}' and others "
        f"({shown(record)} lists the last two batches); this state was not saved; try a smaller learning rate, such as "
        f'SET="lr={lr_of(step) / 3:.1g}", or SET="clip_grad=1"'
    )
