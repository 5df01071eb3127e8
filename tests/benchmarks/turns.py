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


@dataclass
class Result:
    """A quantity: ours beside the reference's (or a limit), and their ratio in each pair of turns."""

    name: str
    ours: float
    theirs: float
    unit: str
    ratios: list[float]
    target: str

    @property
    def ratio(self) -> float:
        """The median of all pairs."""
        return statistics.median(self.ratios)

    def __str__(self) -> str:
        return (
            f"  {self.name:54} {self.ours:10,.4g} {self.theirs:10,.4g} {self.unit:9} ratio {self.ratio:6.2f} "
            f"({min(self.ratios):.2f} to {max(self.ratios):.2f}, n={len(self.ratios)}), target {self.target}"
        )


def compared(name: str, rates: Rates, ours: str, theirs: str, target: str, unit: str = "images/s") -> Result:
    """The result of two variants that took turns."""
    ratios = [mine / other for mine, other in zip(rates[ours], rates[theirs], strict=True)]
    return Result(name, statistics.median(rates[ours]), statistics.median(rates[theirs]), unit, ratios, target)


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


def taking_turns(groups: list[tuple[Callable[..., dict[str, Work]], tuple]], pairs: int, clock: str) -> Rates:
    """Images a second ("cpu" or "wall" seconds) of every variant, which work one at a time: A B A B ...

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
        rates: Rates = {name: [] for name, _ in places}
        for _ in range(pairs):
            for name, place in places:
                place.send(name)
                units, wall, cpu = place.recv()
                rates[name].append(units / (cpu if clock == "cpu" else wall))
    return rates
