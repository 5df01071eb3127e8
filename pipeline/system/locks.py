"""Locks that keep two processes from doing the same work.

``held`` makes other processes on this machine wait. ``owned`` refuses other processes, also on other machines that
share the folder: the lock file holds the host and process of its owner, and the owner updates its modification time
regularly to show that it is alive. A crash of the holder releases both.
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

from pipeline.system.errors import MachineError
from pipeline.system.places import shown
from pipeline.system.processes import HOST, is_alive, start_time_of

#: Seconds between two updates of the modification time by an owner, and seconds without an update after which an owner
#: on another machine counts as dead.
HEARTBEAT, DEAD_AFTER = 15.0, 180.0


@contextmanager
def held(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Context that holds the lock file ``path``; if another process holds it, calls ``waiting`` and waits.

    The system releases the lock when its holder dies.
    """
    from filelock import FileLock, Timeout  # here, since the driver plans with the standard library only

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        waiting()
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def living_owner(path: Path) -> dict[str, Any] | None:
    """Host, PID and start time of the owner of a lock file; None if it has no owner or the owner is dead."""
    try:
        owner = json.loads(path.read_text(encoding="utf-8"))
        host, pid, start = str(owner["host"]), int(owner["pid"]), str(owner["start"])
        silent = time.time() - path.stat().st_mtime
    except (OSError, ValueError, TypeError, KeyError):  # no owner, or a crash while it was written
        return None
    lives = is_alive(pid, start) if host == HOST else silent < DEAD_AFTER
    return owner if lives else None


@contextmanager
def owned(path: Path) -> Iterator[None]:
    """Context that owns the lock file ``path``; raises FoldwiseError if another living process owns it.

    The file is emptied at the end, never deleted, so that two processes cannot hold two files with the same name.
    """
    # A file of its own: on Windows, a locked file cannot be written.
    with held(path.with_name(f".{path.name}.guard"), lambda: None):
        owner = living_owner(path)
        if owner:
            raise MachineError(
                f"process {owner['pid']} on {owner['host']} is already working in {shown(path.parent)}; wait for it, "
                "or stop it and run the same command again"
            )
        me = {"host": HOST, "pid": os.getpid(), "start": start_time_of(os.getpid())}
        path.write_text(json.dumps(me), encoding="utf-8")
    done = threading.Event()

    def beat() -> None:
        while not done.wait(HEARTBEAT):
            with suppress(OSError):  # if the folder was deleted, the work itself will fail
                os.utime(path)

    threading.Thread(target=beat, name="heartbeat", daemon=True).start()
    try:
        yield
    finally:
        done.set()
        with suppress(OSError):
            path.write_text("", encoding="utf-8")
