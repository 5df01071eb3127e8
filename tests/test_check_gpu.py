"""The check of a GPU, in its shortest form: its steps run, and a step that fails is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.gpu import __main__ as check
from tests.gpu import steps
from tests.gpu.here import Failed, Here, require


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
