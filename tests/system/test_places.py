"""FOLDWISE_ROOT."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.checkouts import make


def test_foldwise_root_is_where_everything_is_made(checkout: Path, tmp_path: Path, drawn: Path) -> None:
    """A competition that ships with the checkout, one that lies in both, and one that lies only there."""
    elsewhere = tmp_path / "else where"
    (elsewhere / "data").mkdir(parents=True)
    before = sorted(path for path in checkout.rglob("*") if ".venv" not in path.parts and "pipeline" not in path.parts)
    shutil.copytree(drawn, elsewhere / "data" / "mine")
    for name in ("digits", "shapes", "mine"):
        ended = make(checkout, "folds", f"COMPETITION={name}", FOLDWISE_ROOT=str(elsewhere))
        assert ended.returncode == 0, ended.stderr
        assert (elsewhere / "data" / name / "folds.csv").exists()
        assert "nothing to do" in make(checkout, "folds", f"COMPETITION={name}", FOLDWISE_ROOT=str(elsewhere)).stdout
    for verb in ("help", "why", "doctor"):
        assert make(checkout, verb, FOLDWISE_ROOT=str(elsewhere)).returncode == 0
    after = sorted(path for path in checkout.rglob("*") if ".venv" not in path.parts and "pipeline" not in path.parts)
    assert after == before
