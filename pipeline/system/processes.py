"""Processes of this machine: the rank of this one, whether another one is alive, and how they end together."""

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

#: Name of this machine, in characters that are allowed in file names.
HOST = re.sub(r"\W", "-", platform.node()) or "unknown"


def has_ranks() -> bool:
    """True if torchrun started this process, alone or as one of several ranks (learner/ranks.py)."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def rank() -> int:
    """The rank of this process: 0 for the first one, which prints and writes, and for a process without ranks."""
    return int(os.environ["RANK"]) if has_ranks() else 0


def end_with_parent(number: int = signal.SIGTERM) -> None:
    """Asks Linux to send this process the signal ``number`` when its parent dies, for any reason.

    If the parent is already dead, sends the signal itself. This check needs a parent that multiprocessing knows.
    """
    if sys.platform.startswith("linux"):
        with suppress(OSError, AttributeError):  # a C library without prctl
            ctypes.CDLL(None).prctl(1, number)  # PR_SET_PDEATHSIG of sys/prctl.h
    parent = multiprocessing.parent_process()
    if parent is not None and parent.pid is not None and not is_alive(parent.pid):
        os.kill(os.getpid(), number)


def end_children() -> None:
    """Kills the child processes of multiprocessing that are still alive.

    For a process that is about to exit: Python would wait for its children, although they ignore signals or may hang.
    """
    children = multiprocessing.active_children()
    if children and hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # else torch raises an error for each of them
    for child in children:
        child.kill()
        child.join()


def start_time_of(pid: int) -> str:
    """Start time of a process, to detect a reused PID; ``""`` if the system does not show it.

    The unit is clock ticks since the system started. ``"dead"`` for a zombie: a process that has ended, but whose
    parent has not read its exit status.
    """
    with suppress(OSError, IndexError):
        state, *facts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "dead" if state in "ZX" else facts[18]
    return ""


def is_alive(pid: int, start: str = "") -> bool:
    """True if a process of this machine is alive and, if ``start`` is given, has this start time."""
    if os.name != "posix":  # on Windows, os.kill(pid, 0) would end the process, so it is assumed to be alive
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    now = start_time_of(pid)
    return now != "dead" and (not start or now in ("", start))
