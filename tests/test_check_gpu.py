"""The check of a GPU, in its shortest form: its steps run, and a step that fails is told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.checkouts import heed_signals
from tests.gpu import __main__ as check
from tests.gpu import steps
from tests.gpu.here import CHECKOUT, Failed, Here, require


def test_some_steps_on_a_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    words = ["check", "--device", "cpu", "--tiny", "--only", "machine,waves", "--out", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", words)
    with pytest.raises(SystemExit) as ended:
        check.main()
    assert not ended.value.code, (tmp_path / "out" / "log.txt").read_text()
    machine, waves = json.loads((tmp_path / "out" / "results.json").read_text())
    assert machine["status"] == waves["status"] == 0 and "cores" in machine["found"]
    assert waves["found"] == "80 train and 10 test images of 96 px"
    assert "all 2 are fine" in capsys.readouterr().out


def test_a_missing_gpu_is_a_failed_step(tmp_path: Path) -> None:
    here = Here("cuda", True, tmp_path)
    [result] = check.run_steps(here, ["machine"], tmp_path / "log.txt")
    assert result["status"] == 1 and "finds no GPU" in result["found"]
    assert check.line_of(result).startswith("FAIL")


def test_timed_steps_run_alone_and_after_what_they_need() -> None:
    class Runs:
        def __init__(self, name: str) -> None:
            self.name = name

    def allowed(name: str, running: list[str], left: list[str]) -> bool:
        return check.can_start(name, [Runs(each) for each in running], [name, *left])  # type: ignore[misc]

    assert allowed("waves", ["digits"], []) and not allowed("resume", ["waves"], []) and allowed("resume", [], [])
    assert not allowed("resume", [], ["waves"])
    assert not allowed("small_steps", ["resume"], []) and not allowed("small_steps", [], ["resume"])
    assert allowed("small_steps", [], ["five_folds"]) and not allowed("resume", ["small_steps"], [])


def test_a_step_that_takes_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    running = check.Running(Here("cpu", True, tmp_path), "waves", 0.5, tmp_path / "log.txt")
    result = running.finish()
    assert result["status"] == 124 and result["found"] == "it did not end in time"


def test_other_bits_are_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The step that compares an interrupted training with an undisturbed one must be able to fail."""
    hashes = iter(["aaaaaaaa", "aaaaaaaa", "bbbbbbbb"])
    facts = {"dtype": "bfloat16", "compiled": False, "last_epoch": {"val_score": 1.0}, "seconds": 1.0}
    for name in ("train", "interrupted"):
        monkeypatch.setattr(Here, name, lambda *_, **__: {**facts, "weights_sha256": next(hashes)})
    with pytest.raises(Failed, match="undisturbed aaaaaaaa, again aaaaaaaa, interrupted bbbbbbbb"):
        steps.same_bits(Here("cpu", True, tmp_path), "resnet18_sprint", "epochs=1")
    require(True, "")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--only", "nope"], "error: unknown step 'nope'; known: machine, digits"),
        (["--only", ","], "error: ONLY=, names no step; known: machine, digits"),
        (["--device", "xyz"], "error: unknown DEVICE=xyz; known: cpu, cuda, cuda:1"),
        (["--device", "cuda:99"], "finds no cuda:99 here; on a CPU, type: make check-gpu DEVICE=cpu TINY=1"),
        (["--tiny", "maybe"], "error: TINY=maybe is neither on nor off"),
    ],
)
def test_a_wrong_value_is_one_sentence_before_any_step(words: list[str], message: str) -> None:
    command = [sys.executable, "-m", "tests.gpu", "--device", "cpu", *words]
    ended = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True)
    assert ended.returncode == 1 and message in ended.stderr and ended.stderr.count("\n") == 1 and not ended.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_check_leaves_no_process_and_no_folder(number: int, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.gpu", "--device", "cpu", "--tiny", "--only", "digits"]
    process = subprocess.Popen(
        command, cwd=CHECKOUT, env={**os.environ, "TMPDIR": str(tmp_path)}, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=heed_signals,
    )  # fmt: skip

    def at_work() -> list[int]:
        """The processes of the check and its steps, which have this folder in their environment."""
        mark, found = f"TMPDIR={tmp_path}\0".encode(), []
        for place in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if mark in (place / "environ").read_bytes():
                    found.append(int(place.name))
        return found

    end = time.monotonic() + 60
    while len(at_work()) < 4:  # the check, the step, the driver and a stage
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.05)
    os.killpg(process.pid, number)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 1 and "Traceback" not in said
    assert f"stopped by {signal.Signals(number).name}; its steps are ended" in said
    while at_work():
        assert time.monotonic() < end, at_work()
        time.sleep(0.05)
    assert not list(tmp_path.glob("foldwise-gpu-*"))


def test_a_step_does_not_run_if_one_that_it_needs_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(steps.STEPS, "waves", steps.STEPS["waves"]._replace(after=("machine",)))
    results = check.run_steps(Here("cuda", True, tmp_path), ["machine", "waves"], tmp_path / "log.txt")
    assert results[0]["status"] == 1 and "finds no GPU" in results[0]["found"]
    assert (results[1]["status"], results[1]["found"]) == (1, "not run: machine failed")
