"""The folds that train, in a terminal: a line for each with its epoch, loss and time left, drawn again and again.

Elsewhere each fold prints plain lines of its own, and nothing is drawn.
"""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import Any

from pipeline.records.console import duration
from pipeline.records.progress import read_progress

WIDTH = 20


def line_of(fold: int, facts: dict[str, Any] | None) -> str:
    """One fold's line, by what it wrote of its progress.

    >>> line_of(3, {"epoch": 12, "epochs": 60, "step": 115, "steps": 600, "train loss": 0.5, "left": 185.0})
    'fold 3  [###.................]  epoch 12 of 60, train loss 0.5000, 3 min 5 s left'
    """
    if facts is None:
        return f"fold {fold}  [{'.' * WIDTH}]  starting"
    full = int(WIDTH * facts["step"] / max(1, facts["steps"]))
    names = ("train loss", "validation loss")
    losses = "".join(f", {name} {facts[name]:.4f}" for name in names if facts.get(name) is not None)
    bar = "#" * full + "." * (WIDTH - full)
    return f"fold {fold}  [{bar}]  epoch {facts['epoch']} of {facts['epochs']}{losses}, {duration(facts['left'])} left"


class View:
    """The lines at the bottom of a terminal. folders: of the folds, by number."""

    def __init__(self, folders: dict[int, Path]) -> None:
        self.folders = folders
        self.since: dict[int, float] = {}
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
        lines = [line_of(fold, read_progress(self.folders[fold], since)) for fold, since in sorted(self.since.items())]
        text = f"\x1b[{self.drawn}F" if self.drawn else ""
        text += "\x1b[J" + "".join(f"{line}\n" for line in above) + "".join(f"{line[:columns]}\n" for line in lines)
        sys.stderr.write(text)
        sys.stderr.flush()
        self.drawn = len(lines)
