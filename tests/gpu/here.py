"""Runs the stages for the steps of the check, and reads what they leave."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.records.names import run_name

CHECKOUT = Path(__file__).parents[2]


class Failed(Exception):
    """A step failed; the message says what was wrong."""


def require(holds: bool, wrong: str) -> None:
    """Raises Failed unless the condition holds."""
    if not holds:
        raise Failed(wrong)


@dataclass(frozen=True)
class Here:
    """Where and how the check runs.

    device: "cuda", "cpu" or "cuda:1"
    tiny: True for small sizes, for a CPU
    root: folder of the data, the runs and the submissions
    """

    device: str
    tiny: bool
    root: Path

    @property
    def on_gpu(self) -> bool:
        """True on CUDA."""
        return self.device.startswith("cuda")

    @property
    def cores(self) -> int:
        """Threads for a training that runs alone."""
        return min(4, os.cpu_count() or 1)

    def start(self, *words: str, patch: str = "", **environment: str) -> subprocess.Popen:
        """``python -m <words>`` in the checkout.

        patch: Python to run before the module, such as "import ...; ... = ..."
        """
        command = ["-m", *words]
        if patch:
            code = f"import runpy, sys; sys.argv = {list(words)!r}; {patch}; "
            command = ["-c", code + f"runpy.run_module({words[0]!r}, run_name='__main__')"]
        return subprocess.Popen(
            [sys.executable, *command], cwd=CHECKOUT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={**os.environ, "FOLDWISE_ROOT": str(self.root), "PYTHONPATH": str(CHECKOUT), **environment},
        )  # fmt: skip

    def run(self, *words: str, patch: str = "", status: int = 0, **environment: str) -> str:
        """Runs it to the end and returns its output; raises Failed if it ends with another status."""
        process = self.start(*words, patch=patch, **environment)
        output, _ = process.communicate()
        print(output, flush=True)
        last = output.strip().splitlines()[-1] if output.strip() else ""
        require(process.returncode == status, f"{' '.join(words[:2])} ended with {process.returncode}: {last}")
        return output

    def training(self, competition: str, recipe: str, settings: str, *more: str) -> list[str]:
        """The words that train fold 0."""
        words = ["pipeline.train", "--competition", competition, "--recipe", recipe, "--fold", "0"]
        return [*words, "--device", self.device, "--threads", str(self.cores), *more, "--set", *settings.split()]

    def fold(self, competition: str, recipe: str, settings: str, number: int = 0) -> Path:
        """The folder of a fold."""
        run = run_name(recipe, settings.split())
        return self.root / "data" / competition / "runs" / run / f"fold{number}"

    def train(self, competition: str, recipe: str, settings: str, *more: str, patch: str = "") -> dict[str, Any]:
        """Trains fold 0 and returns its trained.json."""
        self.run(*self.training(competition, recipe, settings, *more), patch=patch)
        return self.trained(competition, recipe, settings)

    def trained(self, competition: str, recipe: str, settings: str, number: int = 0) -> dict[str, Any]:
        """The content of trained.json of a fold."""
        return json.loads((self.fold(competition, recipe, settings, number) / "trained.json").read_text())

    def interrupted(self, competition: str, recipe: str, settings: str, *more: str, patch: str = "") -> dict[str, Any]:
        """As ``train``, but stopped by a signal after the first checkpoint, and continued."""
        words, folder = self.training(competition, recipe, settings, *more), self.fold(competition, recipe, settings)
        process = self.start(*words, patch=patch)
        while process.poll() is None and not any(folder.glob("checkpoints/*/manifest.json")):
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        print(process.communicate()[0], flush=True)
        require(process.returncode == 75, f"it was not stopped in between (status {process.returncode})")
        return self.train(competition, recipe, settings, *more, patch=patch)


def told(facts: dict[str, Any]) -> str:
    """How a fold was computed, and its score."""
    compiled = "compiled" if facts["compiled"] else "eager"
    score = facts["last_epoch"]["val_score"]
    return f"{facts['dtype']}, {compiled}, score {score:.4f}, {facts['seconds']:.1f} s"
