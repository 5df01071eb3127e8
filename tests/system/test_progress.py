"""The progress of a fold."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from pipeline.driver.view import line_of
from pipeline.system.progress import Pace, forget_progress, read_progress, write_progress


def test_what_an_earlier_process_wrote_is_not_shown(tmp_path: Path) -> None:
    write_progress(tmp_path, step=1)
    assert read_progress(tmp_path, time.time() - 60) == {"step": 1}
    assert read_progress(tmp_path, time.time() + 60) is None
    (tmp_path / "progress.json").write_text("{")
    assert read_progress(tmp_path, 0) is None
    forget_progress(tmp_path)
    assert read_progress(tmp_path, 0) is None and not list(tmp_path.iterdir())
    assert "starting" in line_of(0, None)


def test_the_time_left_counts_what_this_process_did(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    pace = Pace(total=1000, done=500)
    now[0] = 110.0
    assert pace.left(600) == 40.0 and pace.is_due() and not pace.is_due()
    now[0] = 111.5
    assert pace.is_due()
