"""A training that is stopped at any moment ends with the same weights."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
import torch

import pipeline.train
from pipeline.records.paths import Paths
from pipeline.system.locks import living_owner
from tests.conftest import Stage
from tests.trainings import FOLD_0, SETTINGS, Trained, trained


@pytest.mark.parametrize("where", ["step 1", "step 4", "end of epoch", "validation", "last validation"])
def test_a_stop_in_mid_epoch(
    split: Paths, stage: Stage, undisturbed: Trained, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """A real signal in the middle of a step or of validation; the same command then ends with the same weights.
    (A fold has 40 images and batches of 16: two steps an epoch, three epochs.)"""
    at = {"step 1": 1, "step 4": 3, "end of epoch": 4, "validation": 2, "last validation": 3}[where]
    name = "predict" if "validation" in where else "set_lr"
    function, calls = getattr(pipeline.train, name), []

    def interrupted(*args: Any) -> Any:
        calls.append(1)
        if len(calls) == at:
            os.kill(os.getpid(), signal.SIGTERM)
        return function(*args)

    monkeypatch.setattr(pipeline.train, name, interrupted)
    with pytest.raises(SystemExit) as stopped:
        stage("train", *FOLD_0, *SETTINGS)
    assert stopped.value.code == 75
    folder = next(split.runs.glob("*/fold0"))
    assert not (folder / "trained.json").exists() and living_owner(folder / "lock") is None
    saved = {"step 1": 1, "step 4": 3, "end of epoch": 4, "validation": 4, "last validation": 6}[where]
    assert max(int(place.parent.name) for place in folder.glob("checkpoints/*/manifest.json")) == saved
    torch.manual_seed(99)  # whatever happened to torch's generator in between
    # It keeps to the thread that it was begun with.
    stage("train", "--fold", "0", "--threads", "2", "--set", *SETTINGS)
    assert trained(split) == undisturbed
