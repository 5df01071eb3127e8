"""The progress of a fold in training, for whoever shows it: ``progress.json`` in its folder, until it is trained."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.system.files import temporary_beside

NAME = "progress.json"
#: Seconds between two times that a fold writes it.
EVERY = 1.0


def write_progress(folder: Path, **facts: Any) -> None:
    """Writes it, whole or not at all; a full disk costs the display, not the training."""
    temporary = temporary_beside(folder / NAME)
    with suppress(OSError):
        temporary.write_text(json.dumps(facts), encoding="utf-8")
        temporary.replace(folder / NAME)


def read_progress(folder: Path, since: float) -> dict[str, Any] | None:
    """What a fold wrote after ``since`` (seconds since 1970); None before that."""
    with suppress(OSError, ValueError):
        if (folder / NAME).stat().st_mtime >= since:
            return json.loads((folder / NAME).read_text(encoding="utf-8"))
    return None


def forget_progress(folder: Path) -> None:
    """Removes it."""
    (folder / NAME).unlink(missing_ok=True)


class Pace:
    """Says when enough time has passed to tell again how far the work is, and how long the rest will take.

    total: steps in all; done: those that earlier processes did.
    """

    def __init__(self, total: int, done: int) -> None:
        self.total, self.first = total, done
        self.began = self.told = time.monotonic()

    def is_due(self, every: float = EVERY) -> bool:
        """Whether ``every`` seconds have passed since this was last true."""
        now = time.monotonic()
        if now - self.told < every:
            return False
        self.told = now
        return True

    def left(self, done: int) -> float:
        """Seconds until all is done, at the pace so far."""
        return (time.monotonic() - self.began) / max(1, done - self.first) * (self.total - done)
