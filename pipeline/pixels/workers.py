"""Loader processes: what they need before they start, and what it means when one of them ends."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import cv2

from pipeline.system.console import say
from pipeline.system.errors import FoldwiseError, count_of
from pipeline.system.processes import end_with_parent
from pipeline.system.signals import SIGNALS

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

#: Batches that a loader process makes ahead, and seconds after which one that makes none is given up.
AHEAD, PATIENCE = 2, 600
#: Where Linux keeps what processes share, batches among it. Docker gives it 64 MB.
SHARED_MEMORY = Path("/dev/shm")
#: Open files of this process without loaders, and at most for each loader process: its pipes and queues, and two
#: tensors for each batch on its way.
FILES_OF_OURS, FILES_OF_EACH = 128, 24


def start_worker(_: int) -> None:
    """A loader process leaves signals to the main one, which saves and then ends it, and its cores to the others."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "SIGKILL"):  # torch's own watch misses a parent that dies before it begins
        end_with_parent(signal.SIGKILL)
    cv2.setNumThreads(0)


def limit_workers(workers: int, batch_bytes: int) -> int:
    """As many of these loader processes as shared memory and open files allow, after the limit of open files was
    raised as far as it goes; says so when it is fewer."""
    if not workers:
        return 0
    allowed = {}
    if resource is not None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        needed = FILES_OF_OURS + workers * FILES_OF_EACH
        if hard == resource.RLIM_INFINITY or hard > soft:
            soft = needed if hard == resource.RLIM_INFINITY else min(hard, max(soft, needed))
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        allowed[f"{soft} open files (raise them with: ulimit -n 4096)"] = (soft - FILES_OF_OURS) // FILES_OF_EACH
    if SHARED_MEMORY.is_dir():
        free = shutil.disk_usage(SHARED_MEMORY).free
        room = f"{free / 1e6:,.0f} MB of shared memory in {SHARED_MEMORY} (in Docker: --shm-size=2g)"
        allowed[room] = int(free // max(1, batch_bytes * (AHEAD + 1)))
    for reason, number in allowed.items():
        if number < workers:
            workers = max(0, number)
            said = count_of(workers, "loader process") if workers else "no loader processes"
            say("loader", f"note: {said}, since there are only {reason}")
    return workers


def worker_error(error: Exception, making: str) -> FoldwiseError | None:
    """One sentence for a loader process that died or hangs; None for an error of another kind.

    Such a process shows as torch's RuntimeError, or as a connection that ended (a crash in native code).
    """
    text = str(error)
    if not (isinstance(error, ConnectionError | EOFError) or "DataLoader worker" in text or "DataLoader timed" in text):
        return None
    return FoldwiseError(
        f"a loader process ended or hangs while they made {making} ({text.splitlines()[0] if text else 'it crashed'}); "
        "most often the memory is full: the same command goes on after the last checkpoint, with WORKERS=1 or "
        "WORKERS=0 if it happens again"
    )
