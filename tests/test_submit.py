"""The file to upload: every form, every check, ids byte for byte."""

from __future__ import annotations

from pathlib import Path

from pipeline.submit import keep_older


def test_an_older_different_submission_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    path.write_text("old")
    path.with_suffix(".json").write_text("{}")
    keep_older(path, "old")
    assert path.exists()
    keep_older(path, "new")
    kept = sorted(file.name for file in tmp_path.iterdir())
    assert not path.exists() and len(kept) == 2 and all(len(name.split(".")[1]) == 8 for name in kept)
