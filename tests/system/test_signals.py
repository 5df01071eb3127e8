"""Signals and the clock end a stage in order."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from pipeline.records.paths import Paths
from pipeline.system import signals
from tests.conftest import Stage, start_stage, wait_for
from tests.trainings import SETTINGS, Trained, trained

MANY_EPOCHS = ["epochs=4000", "ema_decay=0.9"]


@pytest.mark.parametrize(("number", "whole_group"), [(signal.SIGTERM, False), (signal.SIGINT, True)])
def test_a_signal_saves_and_a_second_leaves_at_once(split: Paths, root: Path, number: int, whole_group: bool) -> None:
    """Real processes, once with loader processes that the signal reaches too; then another that is asked twice."""
    settings = ["--fold", "0", "--threads", "1", "--workers", "2" if whole_group else "0", "--set", *MANY_EPOCHS]
    process = start_stage(root, "train", *settings)
    wait_for(lambda: list(split.runs.glob("*/fold0/checkpoints/*/manifest.json")), process)
    began = time.monotonic()
    (os.killpg if whole_group else os.kill)(process.pid, number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 75 and time.monotonic() - began < 20, err
    assert "Traceback" not in err and "stopped by SIG" in err and "the same command continues" in err
    folder = next(split.runs.glob("*/fold0"))
    step = max(int(place.parent.name) for place in folder.glob("checkpoints/*/manifest.json"))
    said = re.search(r"fold 0 is saved after step ([\d,]+) of 8,000", err)  # in validation too
    assert said and int(said[1].replace(",", "")) == step

    process = start_stage(root, "train", *settings)
    events = len(list(folder.glob("events*")))
    wait_for(lambda: len(list(folder.glob("events*"))) > events, process)
    os.kill(process.pid, signal.SIGSTOP)  # so that both wait for it together
    os.kill(process.pid, signal.SIGTERM)
    os.kill(process.pid, signal.SIGINT)
    os.kill(process.pid, signal.SIGCONT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, (out, err)
    assert f"continuing after step {step:,}" in out


def test_a_signal_that_meets_a_destructor_is_not_lost() -> None:
    """Python drops what is raised there."""
    code = """
import os, signal, time
from pipeline.system.console import run_stage
class Dying:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)
def main():
    Dying()
    time.sleep(30)
run_stage(main)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (75, ""), done
    assert "stopped by SIGTERM; the same command continues" in done.stderr and "ignored" not in done.stderr


def test_the_time_is_over(
    split: Paths,
    stage: Stage,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    root: Path,
    undisturbed: Trained,
) -> None:
    """Fold 1 ends in time, fold 0 is stopped by the clock; what is done is submitted, and fold 0 goes on later."""
    later = ["--set", *SETTINGS]
    stage("train", "--fold", "1", "--threads", "1", "--until", str(time.time() + 3600), *later)
    now, asked = time.time(), []

    def clock() -> float:
        asked.append(1)
        return now + 200 * (len(asked) > 5)

    monkeypatch.setattr(signals.time, "time", clock)
    with pytest.raises(SystemExit) as stopped:
        stage("train", "--fold", "0", "--threads", "1", "--until", str(now + 150), *later)
    assert stopped.value.code == 0  # it was told to
    monkeypatch.undo()
    monkeypatch.chdir(root)
    monkeypatch.setattr("pipeline.system.places.ROOT", root)
    assert "the time limit is reached; fold 0 is saved after step" in capsys.readouterr().err
    for name in ("predict", "ensemble", "submit"):
        stage(name, "--folds", "1", *later)
    assert "PARTIAL: 1 of 3 folds" in capsys.readouterr().out
    assert len(pd.read_csv(next((root / "submissions" / "shapes").glob("*~folds=1.csv")))) == 11
    stage("train", "--fold", "0", *later)
    assert trained(split) == undisturbed
