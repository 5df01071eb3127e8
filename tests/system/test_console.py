"""An error is one sentence, whatever its cause."""

from __future__ import annotations

import errno
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

import pipeline.folds
import pipeline.prepare
import pipeline.train
from pipeline.learner import checkpoint
from pipeline.records.paths import Paths
from tests.checkouts import make
from tests.conftest import Failure, Stage
from tests.trainings import forget


def test_an_output_that_cannot_print_a_letter(drawn: Path) -> None:
    strange = drawn.rename(drawn.with_name("größe 日本"))
    ended = make(strange.parents[1], "folds", f"COMPETITION={strange.name}", PYTHONIOENCODING="ascii")
    assert ended.returncode == 0, ended.stderr
    assert "data/gr\\xf6\\xdfe \\u65e5\\u672c/folds.csv" in ended.stdout
    assert "nothing to do" in make(strange.parents[1], "folds", f"COMPETITION={strange.name}").stdout


def test_a_read_only_or_full_folder_is_said_before_training(
    split: Paths, failure: Failure, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Before the first step. (Root writes into folders that forbid it, so the refusals are the system's, made here.)"""
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(pipeline.train, "seed_torch", lambda *key: None if len(key) < 4 else pytest.fail("it trained"))
    with monkeypatch.context() as patched:
        patched.setattr(checkpoint.shutil, "disk_usage", lambda _: usage._replace(free=10_000))
        message = failure("train", "--fold", "0")
        assert "the disk is full" in message and "its checkpoints may take" in message
    mkdir = Path.mkdir

    def refuse(path: Path, *args: Any, **options: Any) -> None:
        if path.name == "fold0":
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        mkdir(path, *args, **options)

    forget(split)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "mkdir", refuse)
        message = failure("train", "--fold", "0")
        assert "read-only disk" in message and "fold0" in message
    small = split.home / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", small], capture_output=True).returncode:
        return  # mounting a really small disk is not allowed here
    try:
        split.runs.symlink_to(small)
        assert "the disk is full" in failure("train", "--fold", "0")
        assert not [path for path in small.rglob("*") if ".tmp-" in path.name]
    finally:
        subprocess.run(["umount", small], check=True)


@pytest.mark.parametrize(("number", "expected"), [(errno.ENOSPC, "the disk is full"), (errno.EROFS, "read-only disk")])
def test_no_disk_space_and_a_read_only_folder(
    shapes: Paths, stage: Stage, failure: Failure, monkeypatch: pytest.MonkeyPatch, number: int, expected: str
) -> None:
    stage("prepare")
    stage("manifest")

    def refuse(path: Path, *_: object) -> None:
        raise OSError(number, "refused by the test", str(path))

    monkeypatch.setattr(pipeline.folds, "write_csv", refuse)
    message = failure("folds")
    assert expected in message and "folds.csv" in message


def test_an_unexpected_fault_names_the_log_with_its_traceback(
    shapes: Paths, stage: Stage, monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    monkeypatch.setattr(pipeline.folds, "make_folds", lambda *_: 1 / 0)
    stage("prepare")
    stage("manifest")
    with pytest.raises(SystemExit) as stopped:
        stage("folds")
    assert "unexpected ZeroDivisionError" in str(stopped.value.code) and "data/error.log" in str(stopped.value.code)
    assert "Traceback" in (root / "data" / "error.log").read_text()
