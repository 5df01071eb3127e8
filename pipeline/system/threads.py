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


def most_workers() -> int:
    """Loader processes beyond which more can only slow a machine down."""
    return max(32, 2 * cores())


def share_cores(num_folds: int, num_cores: int) -> tuple[int, list[int]]:
    """How folds of like size share a CPU soonest: (folds side by side, threads of each fold in its order).

    Folds go in rounds, and those of the last, fuller or not, share all cores. A fold on t threads is taken to be
    t ** 0.8 times as fast as on one (two: 1.74; measured 1.66 to 1.79), so that five folds on two cores train as two,
    two and, with both cores, one. The rule looks at nothing else, so that an interrupted call shares as it did before.
    """

    def speed(threads: int) -> float:
        return threads**0.8

    def time_of(beside: int) -> float:
        rounds, rest = divmod(num_folds, beside)
        return rounds / speed(num_cores // beside) + (1 / speed(num_cores // rest) if rest else 0)

    beside = min(range(1, min(num_folds, num_cores) + 1), key=time_of)
    rest = num_folds % beside
    threads = [num_cores // beside] * (num_folds - rest) + [num_cores // max(1, rest)] * rest
    return beside, threads


def in_threads(function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """Yields ``function(item)`` in the order of the items, by as many threads as there are cores.

    For work that frees the GIL, such as decoding. The first exception of a call is raised.
    """
    with ThreadPoolExecutor(cores()) as pool:
        for start in range(0, len(items), AHEAD):
            yield from pool.map(function, items[start : start + AHEAD])
