"""Runs a function on many items in threads, in order and in bounded memory, and divides the cores among folds."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

#: Largest number of results in memory: enough to keep every core busy, few enough for large images.
MAX_WAITING = 256


def cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def most_workers() -> int:
    """Largest number of loader processes; more would only slow the machine down."""
    return max(32, 2 * cores())


def share_cores(num_folds: int, num_cores: int) -> tuple[int, list[int]]:
    """Divides the cores of a CPU so that folds of similar size finish soonest.

    Returns (number of folds side by side, threads of each fold in order). Folds train in rounds. Those of the last
    round share all cores, even if it has fewer folds. A fold on t threads is assumed to be t ** 0.8 times as fast as on
    one thread (1.74 for two; measured: 1.66 to 1.79). So five folds on two cores train as two, two, and one on both
    cores. The result depends only on the arguments, so an interrupted command divides the cores in the same way again.
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
    """Yields ``function(item)`` in the order of the items, computed in as many threads as there are cores.

    For work that releases the GIL, such as decoding. Raises the first exception of a call.
    """
    with ThreadPoolExecutor(cores()) as pool:
        for start in range(0, len(items), MAX_WAITING):
            yield from pool.map(function, items[start : start + MAX_WAITING])
