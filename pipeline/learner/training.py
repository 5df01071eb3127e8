"""Holds the state of a fold in training: everything that changes from step to step.

Legend: N train rows, B rows of a step, C targets.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import IO, Any

import numpy as np
import safetensors.torch
import torch
from torch import nn

#: Largest number of logits (rows times targets) of an epoch that are kept on the device and in checkpoints, for the
#: train score in the log: 1 MB, for any number of images and classes.
MAX_LOGITS = 2**18


@dataclass
class Training:
    """Everything that changes while a fold trains, which is what a checkpoint holds.

    No random generator is needed: order and augmentation depend only on (seed, epoch, image), mixing and dropout on
    (seed, fold, step, rank), and the learning rate on the step.

    module: the module that learns
    kept: the module to keep: ``module`` itself, or the moving average of its weights
    optimizer, scaler: of ``module``
    scored: (N,) bool on the CPU, the train rows that the epoch's train score is computed on; see ``rows_to_score``
    step: optimizer steps done
    history: a row for each finished epoch
    losses: scalars, one for each step of the current epoch
    rows: (B,) int64, the train rows of each step of the current epoch
    logits: (B', C), those of the scored rows of each step of the current epoch
    """

    module: nn.Module
    kept: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    scored: torch.Tensor
    step: int = 0
    history: list[dict] = field(default_factory=list)
    losses: list[torch.Tensor] = field(default_factory=list)
    rows: list[torch.Tensor] = field(default_factory=list)
    logits: list[torch.Tensor] = field(default_factory=list)

    @property
    def modules(self) -> dict[str, nn.Module]:
        """The different modules by name: "module", and "kept" if it is another one."""
        return {"module": self.module} | ({} if self.kept is self.module else {"kept": self.kept})

    @cached_property
    def scores_all(self) -> bool:
        """True if the train score of an epoch is computed on all rows."""
        return bool(self.scored.all())

    @cached_property
    def floats(self) -> list[torch.Tensor]:
        """All weights and buffers of floating point numbers, including the averaged ones."""
        tensors = [tensor for module in self.modules.values() for tensor in module.state_dict().values()]
        return [tensor for tensor in tensors if tensor.is_floating_point()]

    def first_bad_loss(self) -> int | None:
        """Index of this epoch's first step with a NaN or infinite loss; None if there is none. Waits for the device."""
        if not self.losses:
            return None
        bad = (~torch.stack(self.losses).isfinite()).nonzero()
        return int(bad[0]) if len(bad) else None

    def weights_are_finite(self) -> bool:
        """True if all weights and buffers, including the averaged ones, are finite. Waits for the device."""
        return bool(nn.utils.get_total_norm(self.floats, torch.inf).isfinite())

    def add(self, loss: torch.Tensor, logits: torch.Tensor, rows: torch.Tensor) -> None:
        """Adds one step: its loss (scalar), logits (B, C) and train rows (B,)."""
        self.step += 1
        self.losses.append(loss)
        self.rows.append(rows)
        if not self.scores_all:
            # The places are found on the CPU: to find them on the device would wait for it.
            logits = logits[self.scored[rows].nonzero()[:, 0].to(logits.device, non_blocking=True)]
        self.logits.append(logits)

    def scored_logits(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (K, C) and rows (K,) of the current epoch's scored rows, in the order of the steps."""
        rows = torch.cat(self.rows)
        return torch.cat(self.logits), rows[self.scored[rows]]

    def end_epoch(self) -> None:
        """Clears the losses, logits and rows of the epoch."""
        self.losses, self.logits, self.rows = [], [], []

    def save_trainer(self, file: IO[bytes]) -> None:
        """Writes everything but the weights with torch.save, as tensors and plain types."""
        state = {
            "step": self.step,
            "history": self.history,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "losses": torch.stack(self.losses).cpu(),
            "logits": torch.cat(self.logits).cpu(),
            "rows": torch.cat(self.rows),
        }
        torch.save(state, file)

    def restore(self, weights: dict[str, bytes], trainer: dict[str, Any], device: torch.device) -> None:
        """Restores a saved state.

        weights: content of the safetensors files, by the names of ``modules``
        trainer: what ``save_trainer`` wrote
        """
        for name, module in self.modules.items():
            module.load_state_dict(safetensors.torch.load(weights[name]))
        self.optimizer.load_state_dict(trainer["optimizer"])
        if trainer["scaler"]:
            self.scaler.load_state_dict(trainer["scaler"])
        self.step, self.history = trainer["step"], trainer["history"]
        self.losses, self.rows = list(trainer["losses"].to(device)), [trainer["rows"]]
        logits = trainer["logits"]
        if len(logits) == len(trainer["rows"]):  # older checkpoints hold the logits of all rows
            logits = logits[self.scored[trainer["rows"]]]
        self.logits = [logits.to(device)]


def rows_to_score(num_rows: int, num_targets: int, seed: int) -> torch.Tensor:
    """A mask (N,) bool of the train rows that an epoch's train score is computed on.

    It selects all rows, or a random sample if their logits are more than MAX_LOGITS numbers.
    """
    number = min(num_rows, max(1, MAX_LOGITS // num_targets))
    scored = torch.zeros(num_rows, dtype=torch.bool)
    scored[torch.from_numpy(np.random.default_rng(seed).permutation(num_rows)[:number])] = True
    return scored
