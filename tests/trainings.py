"""Trainings to interrupt, and what they end with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pandas as pd
import pytest
import torch
from torch import nn

from pipeline.learner.checkpoint import Training
from pipeline.records.paths import Paths
from pipeline.system import signals

SETTINGS = ["epochs=3", "mixup=0.4", "ema_decay=0.9", "augment.affine.degrees=5", "start_scale=0.5"]

FOLD_0 = ["--fold", "0", "--threads", "1", "--set"]


def tiny_training(seed: int = 0, scored: torch.Tensor | None = None) -> Training:
    """A module with an optimizer that has moments, after one step of six rows, which are scored unless told."""
    torch.manual_seed(seed)
    module = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
    training = Training(
        module,
        module,
        torch.optim.AdamW(module.parameters()),
        torch.amp.GradScaler("cpu", enabled=False),
        torch.ones(6, dtype=torch.bool) if scored is None else scored,
    )
    loss = module(torch.randn(6, 4)).square().mean()
    loss.backward()
    training.optimizer.step()
    training.add(loss.detach(), torch.randn(6, 2), torch.arange(6))
    return training


@contextmanager
def stopped_at_once() -> Iterator[None]:
    """A training inside of it is asked to stop at its first step, and must end by that."""
    with pytest.MonkeyPatch.context() as patched, pytest.raises(SystemExit):
        patched.setattr(
            signals.Stop, "asked", property(lambda stop: bool(stop.note(15, None) if not stop.reason else 1))
        )
        yield


class Trained(NamedTuple):
    """What a fold ended with: the sha256 of its weights, and its log without the times."""

    weights: str
    log: str


def trained(paths: Paths, fold: int = 0) -> Trained:
    """The result of the one run there is."""
    folder = next(paths.runs.glob(f"*/fold{fold}"))
    log = pd.read_csv(folder / "log.csv").drop(columns="seconds").to_csv()
    return Trained(json.loads((folder / "trained.json").read_text())["weights_sha256"], log)


def forget(paths: Paths) -> None:
    """As if nothing had been trained."""
    shutil.rmtree(paths.runs)
