"""The data that benchmarks run on, and the measuring of whole processes. Standard library only."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
COMPETITION = "dogs-vs-cats"


@dataclass(frozen=True)
class Arena:
    """A root of its own (data/, submissions/) with the pictures of dogs-vs-cats, judged by accuracy."""

    root: Path

    @property
    def home(self) -> Path:
        return self.root / "data" / COMPETITION

    @classmethod
    def open(cls, root: Path, shared: Path) -> Arena:
        """Makes or reopens it, up to folds.csv; ``shared`` is the folder of data sets."""
        arena = cls(root)
        if not (arena.home / "folds.csv").exists():
            arena.home.mkdir(parents=True, exist_ok=True)
            facts = (CHECKOUT / "data" / COMPETITION / "competition.toml").read_text()
            (arena.home / "competition.toml").write_text(facts.replace('"log_loss"', '"accuracy"'))
            raw = arena.home / "raw"
            if not raw.exists():
                raw.symlink_to((shared / COMPETITION).resolve())
            for stage in ("prepare", "manifest", "folds"):
                arena.run(["-m", f"pipeline.{stage}", "--competition", COMPETITION])
        return arena

    def run(self, arguments: list[str]) -> tuple[float, float]:
        """Runs ``python arguments...`` to its end and returns its (wall, CPU) seconds, those of its children too."""
        environment = {**os.environ, "FOLDWISE_ROOT": str(self.root), "PYTHONPATH": str(CHECKOUT)}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = subprocess.run([sys.executable, *arguments], env=environment, cwd=CHECKOUT, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"error: {' '.join(arguments)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return time.perf_counter() - began, cpu
