"""The shorter form of ``make chaos``: a fold that is killed at random moments ends in the CSV of an undisturbed one."""

from __future__ import annotations

import random
import shutil
import time
from pathlib import Path

from pipeline.records.paths import Paths
from tests.conftest import Stage, start_stage, wait_for

SETTINGS = ["epochs=250", "ema_decay=0.9", "mixup=0.4"]


def test_three_kills_change_no_byte(split: Paths, stage: Stage, root: Path) -> None:
    words = ["--threads", "1", "--set", *SETTINGS]

    def finish() -> tuple[bytes, bytes]:
        """The CSV and the probabilities behind it."""
        stage("train", "--fold", "0", *words)
        for name in ("predict", "ensemble", "submit"):
            stage(name, "--folds", "0", "--set", *SETTINGS)
        (csv,) = (root / "submissions" / "shapes").glob("*.csv")
        (probs,) = split.runs.glob("*/test~folds=0.csv")
        return csv.read_bytes(), probs.read_bytes()

    def saved_step() -> int:
        """The step of the newest checkpoint, -1 without one."""
        return max(
            (int(path.parent.name) for path in split.runs.glob("*/fold0/checkpoints/*/manifest.json")), default=-1
        )

    undisturbed = finish()
    shutil.rmtree(split.runs)
    shutil.rmtree(root / "submissions")
    rng, newest = random.Random(0), -1
    for _ in range(3):
        process = start_stage(root, "train", "--fold", "0", *words)

        wait_for(lambda: saved_step() > newest, process)  # noqa: B023 (called in this turn only)
        time.sleep(rng.uniform(0, 0.4))
        process.kill()
        process.communicate()
        newest = saved_step()
    assert finish() == undisturbed
    assert not list(root.rglob(".*.tmp-*"))
