"""Work on many files side by side, in order and in bounded memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

#: Results that may wait in memory: enough to keep every core busy, few enough for large pictures.
AHEAD = 256


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_threads(function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """Yields ``function(item)`` in the order of the items, by as many threads as there are cores.

    For work that frees the GIL, such as decoding. The first exception of a call is raised.
    """
    with ThreadPoolExecutor(cores()) as pool:
        for start in range(0, len(items), AHEAD):
            yield from pool.map(function, items[start : start + AHEAD])
