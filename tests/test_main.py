"""python -m pipeline, and make without anything installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.checkouts import CHECKOUT, make, start


def test_a_wrong_name_or_python_is_said_before_set_up(checkout: Path) -> None:
    (checkout / ".venv" / "ready").unlink()
    for words in (["COMPETITION=digts"], ["RECIPE=x"], ["FOLDS=9"], ["SET=x"]):
        ended = make(checkout, "submit", *words)
        assert ended.returncode == 2 and "error: " in ended.stderr and "installing" not in ended.stdout
    old = checkout / "old python"
    old.write_text("#!/bin/sh\necho 'error: Foldwise needs Python 3.11 to 3.14, this is 3.9' >&2; exit 1\n")
    old.chmod(0o755)
    ended = make(checkout, "submit", f"PYTHON={old}")
    assert ended.returncode == 2 and "this is 3.9" in ended.stderr and "installing" not in ended.stdout


def test_help_why_and_doctor_answer_without_set_up(checkout: Path) -> None:
    (checkout / ".venv" / "ready").unlink()
    (checkout / ".venv" / "bin" / "python").unlink()
    bare = f"PYTHON={sys.executable}"
    assert "make submit" in make(checkout, bare).stdout
    assert "prepare: not done yet" in make(checkout, "why", bare).stdout
    assert "installing" not in make(checkout, "doctor", bare).stdout
    assert not (checkout / ".venv" / "ready").exists()


def test_a_python_that_is_too_old_gets_one_sentence() -> None:
    """The two files that it reads have no newer syntax, and the check comes before any other import."""
    source = (CHECKOUT / "pipeline" / "__main__.py").read_text()
    code = source.replace("import sys\n", "import sys\nsys.version_info = (3, 9, 1)\n", 1)
    ended = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True)
    assert ended.returncode == 1 and ended.stderr.count("\n") == 1
    assert "Foldwise needs Python 3.11 to 3.14, this is 3.9; use another: make PYTHON=python3.12" in ended.stderr


def test_without_make(checkout: Path) -> None:
    process = start(checkout, [sys.executable, "-m", "pipeline", "trian"])
    assert "there is no command 'trian'; did you mean 'train'?" in process.communicate()[1]
    process = start(checkout, [sys.executable, "-m", "pipeline", "train", "FOLD=1", "-n"], SET="x", FOLD="7")
    assert "pipeline.train --competition=digits --fold 1" in process.communicate()[0]
