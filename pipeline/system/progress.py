"""Writes and reads the progress of a fold in training: ``progress.json`` in its folder, until it is trained."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.system.files import temporary_beside

NAME = "progress.json"
#: Seconds between two writes.
WRITE_EVERY = 1.0


def write_progress(folder: Path, **facts: Any) -> None:
    """Writes the progress atomically; ignores errors such as a full disk, so that training continues."""
    temporary = temporary_beside(folder / NAME)
    with suppress(OSError):
        temporary.write_text(json.dumps(facts), encoding="utf-8")
        temporary.replace(folder / NAME)


def read_progress(folder: Path, since: float) -> dict[str, Any] | None:
    """The progress that a fold wrote at or after ``since`` (seconds since 1970); None if there is none."""
    with suppress(OSError, ValueError):
        if (folder / NAME).stat().st_mtime >= since:
            return json.loads((folder / NAME).read_text(encoding="utf-8"))
    return None


def forget_progress(folder: Path) -> None:
    """Deletes the progress file."""
    (folder / NAME).unlink(missing_ok=True)


class Pace:
    """Says when the progress should be reported again, and how long the rest of the work will take.

    total: number of all steps
    first: number of steps done by earlier processes
    began, reported: time.monotonic() of the start and of the last report
    """

    def __init__(self, total: int, done: int) -> None:
        self.total, self.first = total, done
        self.began = self.reported = time.monotonic()

    def is_due(self, every: float = WRITE_EVERY) -> bool:
        """True if ``every`` seconds have passed since this was last true, or since the start."""
        now = time.monotonic()
        if now - self.reported < every:
            return False
        self.reported = now
        return True

    def left(self, done: int) -> float:
        """Estimated seconds until all steps are done, at the speed so far; ``done`` of them are done now."""
        return (time.monotonic() - self.began) / max(1, done - self.first) * (self.total - done)
