"""Shows the running folds in a terminal: one line for each with its epoch, loss and time left, updated in place.

Without a terminal, nothing is drawn, and each fold prints plain lines.
"""

from __future__ import annotations

import shutil
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.records.names import fold_name
from pipeline.system.console import duration
from pipeline.system.progress import read_progress

WIDTH = 10


def line_of(fold: int, facts: dict[str, Any] | None, ending: bool = False) -> str:
    """The line of one fold.

    facts: the content of its progress.json, or None if there is none
    ending: True if the fold had a progress.json before; it deletes the file after the last epoch

    >>> line_of(3, {"epoch": 12, "epochs": 60, "step": 150, "steps": 600, "train loss": 0.5, "left": 185.0})
    'fold 3  [##........]  epoch 12 of 60, 3 min 5 s left, loss 0.5000'
    """
    if facts is None:
        doing = "drawing its pictures" if ending else "starting"
        return f"{fold_name(fold)}  [{('#' if ending else '.') * WIDTH}]  {doing}"
    full = int(WIDTH * facts["step"] / max(1, facts["steps"]))
    names = {"train loss": "loss", "validation loss": "val"}  # shown after the first epoch
    losses = "".join(f", {label} {facts[key]:.4f}" for key, label in names.items() if facts.get(key) is not None)
    bar = "#" * full + "." * (WIDTH - full)
    left = "" if facts["left"] is None else f", {duration(facts['left'])} left"
    return f"{fold_name(fold)}  [{bar}]  epoch {facts['epoch']} of {facts['epochs']}{left}{losses}"


class View:
    """The lines at the bottom of a terminal.

    folders: fold -> its folder
    since: fold -> time (seconds since 1970) at which it started; an older progress.json is ignored
    seen: folds that have had a progress.json
    drawn: number of lines drawn last
    """

    def __init__(self, folders: dict[int, Path]) -> None:
        self.folders = folders
        self.since: dict[int, float] = {}
        self.seen: set[int] = set()
        self.drawn = 0

    def add(self, fold: int) -> None:
        """Adds the line of a fold that starts."""
        self.since[fold] = time.time() - 1  # file systems round times down
        self.draw()

    def remove(self, fold: int) -> None:
        """Removes the line of a fold that has ended."""
        self.since.pop(fold, None)
        self.draw()

    def draw(self, *above: str) -> None:
        """Prints the lines ``above``, and draws the lines of the folds again below them."""
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
