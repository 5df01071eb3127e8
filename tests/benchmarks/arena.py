"""The place that benchmarks run in, and the measuring of whole processes. Standard library only."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
COMPETITION = "dogs-vs-cats"


@dataclass(frozen=True)
class Finished:
    """A process that ended well, with its children: seconds, largest resident memory of one of them (MB), output."""

    wall: float
    cpu: float
    memory: float
    output: str


def run(command: list[str], folder: Path) -> Finished:
    """Runs a command to its end; one that fails ends the benchmark with what it said."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(CHECKOUT)])}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    environment.pop("MAKEFLAGS", None)
    with tempfile.TemporaryFile("w+") as said:
        began = time.perf_counter()
        process = subprocess.Popen(command, env=environment, cwd=folder, stdout=said, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        said.seek(0)
        output = said.read()
    if status:
        sys.exit(f"error: {' '.join(command)} failed:\n{output[-3000:]}")
    return Finished(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, output)


@dataclass(frozen=True)
class Arena:
    """A checkout of its own, as far as make and the stages can tell: the code is ours, data/ and submissions/ are not.
    It holds the pictures of dogs-vs-cats, judged by accuracy."""

    root: Path

    @property
    def home(self) -> Path:
        return self.root / "data" / COMPETITION

    @property
    def images(self) -> Path:
        return self.home / "images"

    @property
    def folds(self) -> Path:
        return self.home / "folds.csv"

    @classmethod
    def open(cls, root: Path, shared: Path) -> Arena:
        """Makes or reopens it, up to folds.csv; ``shared`` is the folder of data sets."""
        arena = cls(root)
        arena.home.mkdir(parents=True, exist_ok=True)
        for name in ("Makefile", "pyproject.toml", "constraints.txt", "pipeline", ".venv"):
            link(root / name, CHECKOUT / name)
        link(arena.home / "raw", (shared / COMPETITION).resolve())
        facts = (CHECKOUT / "data" / COMPETITION / "competition.toml").read_text()
        toml = arena.home / "competition.toml"
        if not toml.exists():
            toml.write_text(facts.replace('metric     = "log_loss"', 'metric     = "accuracy"'))
        arena.make("folds")
        return arena

    def make(self, *words: str) -> Finished:
        """``make words... COMPETITION=dogs-vs-cats`` in the arena."""
        return run(["make", *words, f"COMPETITION={COMPETITION}"], self.root)

    def python(self, *words: str) -> Finished:
        """``python -m words...`` in the arena."""
        return run([sys.executable, "-m", *words], self.root)


def link(path: Path, target: Path) -> None:
    """A symbolic link, if there is nothing yet."""
    if not path.exists():
        path.symlink_to(target)
