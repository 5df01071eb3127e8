"""This machine's processes: whether one that left its number somewhere still lives, and which rank this one has."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import platform
import re
import signal
import sys
from contextlib import suppress
from pathlib import Path

#: This machine, in letters that suit a file's name.
HOST = re.sub(r"\W", "-", platform.node()) or "unknown"


def is_of_ranks() -> bool:
    """Whether torchrun started this process, maybe as one of several that do the same work (learner/ranks.py)."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def rank() -> int:
    """Which of those it is; 0 for the first, which says and writes, and for a process by itself."""
    return int(os.environ["RANK"]) if is_of_ranks() else 0


def end_with_parent(number: int = signal.SIGTERM) -> None:
    """Asks Linux to send this process the signal ``number`` when the one that started it dies, however it dies; does
    so itself when a parent whose number is known (multiprocessing notes it) is dead."""
    if sys.platform.startswith("linux"):
        with suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL(None).prctl(1, number)  # PR_SET_PDEATHSIG of sys/prctl.h
    parent = multiprocessing.parent_process()
    if parent is not None and parent.pid is not None and not is_alive(parent.pid):
        os.kill(os.getpid(), number)


def end_children() -> None:
    """Kills what multiprocessing started here and still lives. For a process about to end: Python would wait for them,
    though they heed no signal or hang."""
    children = multiprocessing.active_children()
    if children and hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # else torch raises an error of its own for each that ends
    for child in children:
        child.kill()
        child.join()


def start_time_of(pid: int) -> str:
    """What tells a process from a later one of the same number, where the system shows it: when it began. ``"dead"``
    for one that has ended and whose parent has not asked for its status."""
    with suppress(OSError, IndexError):
        state, *facts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "dead" if state in "ZX" else facts[18]
    return ""


def is_alive(pid: int, start: str = "") -> bool:
    """Whether a process of this machine lives, and is the one that began at ``start`` if that is given."""
    if os.name != "posix":  # elsewhere signal 0 ends it; taken for alive, as one would have to be told
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    now = start_time_of(pid)
    return now != "dead" and (not start or now in ("", start))
