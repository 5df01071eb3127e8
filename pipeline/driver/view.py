"""The folds that train, in a terminal: a line for each with its epoch, loss and time left, drawn again and again.

Elsewhere each fold prints plain lines of its own, and nothing is drawn.
"""

from __future__ import annotations

import shutil
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.system.console import duration
from pipeline.system.progress import read_progress

WIDTH = 10


def line_of(fold: int, facts: dict[str, Any] | None, ending: bool = False) -> str:
    """One fold's line, by what it wrote of its progress. ending: it has written some, and removed it at its end.

    >>> line_of(3, {"epoch": 12, "epochs": 60, "step": 150, "steps": 600, "train loss": 0.5, "left": 185.0})
    'fold 3  [##........]  epoch 12 of 60, 3 min 5 s left, loss 0.5000'
    """
    if facts is None:
        return f"fold {fold}  [{('#' if ending else '.') * WIDTH}]  {'drawing its pictures' if ending else 'starting'}"
    full = int(WIDTH * facts["step"] / max(1, facts["steps"]))
    names = {"train loss": "loss", "validation loss": "val"}  # as far as an epoch has ended
    losses = "".join(f", {said} {facts[key]:.4f}" for key, said in names.items() if facts.get(key) is not None)
    bar = "#" * full + "." * (WIDTH - full)
    left = "" if facts["left"] is None else f", {duration(facts['left'])} left"
    return f"fold {fold}  [{bar}]  epoch {facts['epoch']} of {facts['epochs']}{left}{losses}"


class View:
    """The lines at the bottom of a terminal. folders: of the folds, by number."""

    def __init__(self, folders: dict[int, Path]) -> None:
        self.folders = folders
        self.since: dict[int, float] = {}
        self.seen: set[int] = set()
        self.drawn = 0

    def add(self, fold: int) -> None:
        """A fold begins."""
        self.since[fold] = time.time() - 1  # file systems round times down
        self.draw()

    def remove(self, fold: int) -> None:
        """A fold has ended."""
        self.since.pop(fold, None)
        self.draw()

    def draw(self, *above: str) -> None:
        """Draws the lines again, below what is to be printed ``above`` them."""
        columns = shutil.get_terminal_size().columns - 1
        facts = {fold: read_progress(self.folders[fold], since) for fold, since in sorted(self.since.items())}
        self.seen |= {fold for fold, found in facts.items() if found is not None}
        lines = [line_of(fold, found, fold in self.seen) for fold, found in facts.items()]
        text = f"\x1b[{self.drawn}F" if self.drawn else ""
        text += "\x1b[J" + "".join(f"{line}\n" for line in above) + "".join(f"{line[:columns]}\n" for line in lines)
        with suppress(OSError):  # the terminal may have been closed
            sys.stderr.write(text)
            sys.stderr.flush()
        self.drawn = len(lines)
