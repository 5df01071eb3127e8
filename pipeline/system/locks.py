"""Who is at work on what.

Two kinds of locks. ``held`` lets others wait for a piece of work on this machine. ``owned`` refuses others, also on
other machines that share the folder: the file tells its owner's host and process, and a beat of its modification time
tells that the owner lives. Neither outlives a crash.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pipeline.system.errors import FoldwiseError
from pipeline.system.places import shown
from pipeline.system.processes import HOST, is_alive, start_time_of

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

#: Seconds between two beats of an owner, and after which a silent one on another machine counts as dead.
BEAT, DEAD_AFTER = 15.0, 180.0


@contextmanager
def held(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Keeps other processes out while it is held; calls ``waiting`` before it waits for one of them.

    The system lets go of the lock when its holder dies. Windows has no such lock, and none is taken there: what is
    done under it must be harmless to do twice.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                waiting()
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


def living_owner(path: Path) -> dict[str, Any] | None:
    """Host, process and start of the owner of a lock file; None when nobody owns it, or the owner is dead."""
    try:
        owner = json.loads(path.read_text(encoding="utf-8"))
        host, pid, start = str(owner["host"]), int(owner["pid"]), str(owner["start"])
        silent = time.time() - path.stat().st_mtime
    except (OSError, ValueError, TypeError, KeyError):  # free, or its writing was cut short by a crash
        return None
    lives = is_alive(pid, start) if host == HOST else silent < DEAD_AFTER
    return owner if lives else None


@contextmanager
def owned(path: Path) -> Iterator[None]:
    """Owns what the lock file ``path`` stands for; raises FoldwiseError while another living process does.

    The file is emptied at the end, never removed, so that no two processes can hold two files of one name.
    """

    with held(path, lambda: None):
        owner = living_owner(path)
        if owner:
            raise FoldwiseError(
                f"process {owner['pid']} on {owner['host']} is at work in {shown(path.parent)} already; wait for it, "
                "or stop it and type the same again"
            )
        me = {"host": HOST, "pid": os.getpid(), "start": start_time_of(os.getpid())}
        path.write_text(json.dumps(me), encoding="utf-8")
    done = threading.Event()

    def beat() -> None:
        while not done.wait(BEAT):
            with suppress(OSError):  # its folder may be gone; the work itself will notice
                os.utime(path)

    threading.Thread(target=beat, name="heartbeat", daemon=True).start()
    try:
        yield
    finally:
        done.set()
        with suppress(OSError):
            path.write_text("", encoding="utf-8")
