"""Two processes in one folder."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from pipeline.records.paths import Paths
from pipeline.system.errors import FoldwiseError
from pipeline.system.locks import living_owner, owned
from pipeline.system.processes import HOST
from tests.conftest import Failure, Stage, start_stage, wait_for

MANY_EPOCHS = ["epochs=4000", "ema_decay=0.9"]


def test_two_runs_in_one_folder(split: Paths, stage: Stage, failure: Failure, root: Path) -> None:
    process = start_stage(root, "train", "--fold", "0", "--set", *MANY_EPOCHS)
    wait_for(lambda: list(split.runs.glob("*/fold0/checkpoints/*/manifest.json")), process)
    message = failure("train", "--fold", "0", "--set", *MANY_EPOCHS)
    assert f"process {process.pid} on {HOST} is already working in" in message
    process.kill()
    process.communicate()
    lock = next(split.runs.glob("*/fold0/lock"))
    assert living_owner(lock) is None  # its owner is dead: the lock is taken over
    with owned(lock):
        assert living_owner(lock)
    lock.write_text(json.dumps({"host": "another", "pid": 1, "start": ""}))  # on another machine: by its heartbeat
    with pytest.raises(FoldwiseError, match="process 1 on another is already working"), owned(lock):
        pass
    os.utime(lock, (0, 0))
    with owned(lock):
        pass
    lock.write_text(json.dumps({"host": HOST, "pid": os.getpid(), "start": "another process of this number"}))
    with owned(lock):
        pass
