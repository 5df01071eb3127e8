"""Variants that take turns, each group of them in a process of its own, and what comes of a comparison."""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

Work = Callable[[], float]  # does a unit of work and returns how many images that was
Rates = dict[str, list[float]]  # by variant, a number for each turn
Clocks = dict[str, Rates]  # by "cpu" and "wall"


@dataclass
class Result:
    """A quantity: ours beside the reference's (or a limit), and their ratio in each pair of turns.

    by_other: the median ratio by the other clock, wall for CPU seconds and the other way round.
    """

    name: str
    ours: float
    theirs: float
    unit: str
    ratios: list[float]
    target: str
    by_other: float | None = None

    @property
    def ratio(self) -> float:
        """The median of all pairs."""
        return statistics.median(self.ratios)

    def __str__(self) -> str:
        return (
            f"  {self.name:54} {self.ours:10,.4g} {self.theirs:10,.4g} {self.unit:9} ratio {self.ratio:6.3g} "
            f"({min(self.ratios):.3g} to {max(self.ratios):.3g}, n={len(self.ratios)}), target {self.target}"
        )


def compared(name: str, numbers: Rates, ours: str, theirs: str, target: str, unit: str) -> Result:
    """The result of two variants, from a number of each for every turn."""
    ratios = [mine / other for mine, other in zip(numbers[ours], numbers[theirs], strict=True)]
    return Result(name, statistics.median(numbers[ours]), statistics.median(numbers[theirs]), unit, ratios, target)


def rated(name: str, clocks: Clocks, clock: str, ours: str, theirs: str, target: str) -> Result:
    """The result of two variants that took turns, by one clock with a look at the other."""
    unit = {"cpu": "images/CPU s", "wall": "images/s"}[clock]
    result = compared(name, clocks[clock], ours, theirs, target, unit)
    other = clocks["wall" if clock == "cpu" else "cpu"]
    result.by_other = compared(name, other, ours, theirs, target, unit).ratio
    return result


def serve(connection: Connection, build: Callable[..., dict[str, Work]], arguments: tuple) -> None:
    """The life of a group's process: it builds its variants, then does the work of each that is called."""
    variants = build(*arguments)
    for work in variants.values():
        work()  # warm-up
    connection.send(list(variants))
    while (name := connection.recv()) is not None:
        wall, cpu = time.perf_counter(), time.process_time()
        units = variants[name]()
        connection.send((units, time.perf_counter() - wall, time.process_time() - cpu))


def taking_turns(groups: list[tuple[Callable[..., dict[str, Work]], tuple]], pairs: int) -> Clocks:
    """Images a CPU second and a wall second of every variant, which work one at a time: A B A B ...

    groups: functions that build variants, with their arguments. The processes of the groups share no settings, so that
    what ours tunes does not help the reference.
    """
    spawn = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        places: list[tuple[str, Any]] = []
        for build, arguments in groups:
            here, there = spawn.Pipe()
            process = spawn.Process(target=serve, args=(there, build, arguments), daemon=True)
            process.start()
            there.close()
            stack.callback(process.join)
            stack.callback(here.send, None)
            places += [(name, here) for name in here.recv()]
        clocks: Clocks = {clock: {name: [] for name, _ in places} for clock in ("cpu", "wall")}
        for _ in range(pairs):
            for name, place in places:
                place.send(name)
                units, wall, cpu = place.recv()
                clocks["cpu"][name].append(units / cpu)
                clocks["wall"][name].append(units / wall)
    return clocks
