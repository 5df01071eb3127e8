"""Paths of the checkout and its data, and how a path is shown to the user. Standard library only."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.system.processes import rank

CHECKOUT = Path(__file__).parents[2]
#: The folder of data/ and submissions/: the checkout, or FOLDWISE_ROOT (for tests and read-only checkouts).
ROOT = Path(os.environ.get("FOLDWISE_ROOT") or CHECKOUT).absolute()


def error_log() -> Path:
    """Path of the file that holds the traceback of an unexpected error."""
    return ROOT / "data" / (f"error.rank{rank()}.log" if rank() else "error.log")


def is_not_utf8(name: str) -> bool:
    """True if a file name contains bytes that are not valid UTF-8, so that no table or record can hold it."""
    return any("\udc80" <= letter <= "\udcff" for letter in name)


def shown(path: Path) -> str:
    """The path as the user would type it: relative to the working directory if it is below it, else absolute."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
