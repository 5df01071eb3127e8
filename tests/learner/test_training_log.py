"""The log of a fold."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import torch

from pipeline.learner.checkpoint import Checkpoints
from pipeline.learner.saving import FoldStore
from pipeline.learner.training_log import TrainingLog
from pipeline.system.signals import Stop

ROW = {"lr": 0.1, "train_loss": 0.5, "train_score": 0.7, "val_loss": 0.6, "val_score": 0.65}


def store_in(folder: Path) -> FoldStore:
    return FoldStore(0, folder, Checkpoints(folder / "checkpoints", {}), Stop(), ["a"])


def test_rows_are_added_and_a_resumed_log_goes_on(tmp_path: Path) -> None:
    log = TrainingLog(store_in(tmp_path), 3, "accuracy", [])
    log.add(**ROW)
    log.add(**{**ROW, "val_score": 0.75})
    written = pd.read_csv(tmp_path / "log.csv")
    assert list(written["epoch"]) == [1, 2] and list(written["val_score"]) == [0.65, 0.75]
    resumed = TrainingLog(store_in(tmp_path), 3, "accuracy", log.history[:1])
    resumed.add(**ROW)
    assert list(pd.read_csv(tmp_path / "log.csv")["val_score"]) == [0.65, 0.65]
    resumed.close("heading")
    assert (tmp_path / "curves.png").stat().st_size > 10_000 and list(tmp_path.glob("events.*"))


def test_other_ranks_write_nothing(tmp_path: Path) -> None:
    log = TrainingLog(store_in(tmp_path), 1, "accuracy", [], writes=False)
    batches = list(log.with_progress([torch.tensor(1), torch.tensor(2)], 2, 0))
    log.add(**ROW)
    log.close("heading")
    assert len(batches) == 2 and len(log.table) == 1 and list(tmp_path.iterdir()) == []
