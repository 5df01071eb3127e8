"""Starts loader processes, limits their number, and explains their errors."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import cv2

from pipeline.system.console import say
from pipeline.system.errors import MachineError, count_of
from pipeline.system.processes import end_with_parent
from pipeline.system.signals import SIGNALS

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

#: Batches that a loader process prepares in advance, and seconds to wait for a batch before loading fails.
PREFETCH, TIMEOUT = 2, 600
#: Shared memory on Linux, through which loader processes pass their batches. In Docker it has 64 MB by default.
SHARED_MEMORY = Path("/dev/shm")
#: Largest number of open files of this process: without loader processes, and in addition for each of them (its pipes
#: and queues, and two tensors for each batch in transit).
BASE_FILES, FILES_PER_WORKER = 128, 24


def start_worker(_: int) -> None:
    """Prepares a new loader process: it ignores signals, ends with its parent and uses one core.

    Signals are for the main process, which saves and then ends its loader processes.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "SIGKILL"):  # torch does not notice a parent that dies before its own check starts
        end_with_parent(signal.SIGKILL)
    cv2.setNumThreads(0)


def limit_workers(workers: int, batch_bytes: int) -> int:
    """The number of loader processes that shared memory and the limit of open files allow, at most ``workers``.

    Raises the soft limit of open files first, if it is too low. Prints a note if the number is reduced.
    batch_bytes: largest size of a batch of images
    """
    if not workers:
        return 0
    allowed = {}
    if resource is not None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        needed, unlimited = BASE_FILES + workers * FILES_PER_WORKER, resource.RLIM_INFINITY
        if soft != unlimited and soft < needed:
            soft = needed if hard == unlimited else min(hard, needed)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        if soft != unlimited:
            limit = f"the limit of open files is {soft} (raise it with: ulimit -n 4096)"
            allowed[limit] = (soft - BASE_FILES) // FILES_PER_WORKER
    if SHARED_MEMORY.is_dir():
        free = shutil.disk_usage(SHARED_MEMORY).free
        room = f"{SHARED_MEMORY} has only {free / 1e6:,.0f} MB of free shared memory (in Docker: --shm-size=2g)"
        allowed[room] = int(free // max(1, batch_bytes * (PREFETCH + 1)))
    for reason, number in allowed.items():
        if number < workers:
            workers = max(0, number)
            number_text = count_of(workers, "loader process") if workers else "no loader processes"
            say("loader", f"note: using {number_text}, because {reason}")
    return workers


def worker_error(error: Exception, making: str) -> MachineError | None:
    """The FoldwiseError for a loader process that died or hangs; None for an error of another kind.

    torch reports such a process by a RuntimeError, or by a closed connection (after a crash in native code).
    making: the batches that were in preparation, for the message
    """
    text = str(error)
    if not (isinstance(error, ConnectionError | EOFError) or "DataLoader worker" in text or "DataLoader timed" in text):
        return None
    return MachineError(
        f"a loader process ended or hangs while making {making} ({text.splitlines()[0] if text else 'it crashed'}); "
        "usually the memory is full; the same command continues from the last checkpoint; if it happens again, add "
        "WORKERS=1 or WORKERS=0"
    )
