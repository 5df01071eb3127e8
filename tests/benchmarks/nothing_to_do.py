"""How long "nothing to do" takes with 20,000 images, and --help of each stage.

    python -m tests.benchmarks.nothing_to_do [--images 20000]

Reads   nothing
Writes  a competition in a temporary folder, removed at the end; prints the medians of seven runs
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from pipeline.driver.options import STAGES, Options
from pipeline.driver.plan import Plan, make_plan
from pipeline.driver.steps import files_of_stage, run_of
from pipeline.records.up_to_date import StageFiles, predict_files
from pipeline.system import places
from pipeline.system.files import write_json
from tests.checkouts import environment, new_checkout

TOML = """
title = "Many"
recipe = "tiny"
[train]
images = "train"
labels = "folders"
[test]
images = "test"
pattern = '^(?P<id>\\d+)\\.png$'
[submission]
columns = ["id", "label"]
"""


def record(target: StageFiles, *made: Path) -> None:
    """As if a stage had made its outputs and these files."""
    made = (*target.outputs, *made)
    for path in made:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(path.name)
    target.record.parent.mkdir(parents=True, exist_ok=True)
    write_json(target.record, target.new_record(target.hash_inputs(), made))


def finish(plan: Plan) -> None:
    """As if all stages had run."""
    record(files_of_stage(plan, "prepare"))
    record(files_of_stage(plan, "manifest"))
    record(files_of_stage(plan, "folds"))
    for fold in plan.chosen:
        folder = plan.paths.fold(plan.run, fold)
        folder.mkdir(parents=True)
        (folder / "trained.json").write_text("{}")
        (folder / "weights.safetensors").write_bytes(bytes(45_000_000))
        record(predict_files(plan.paths, run_of(plan), fold), folder / "test.npz")
    record(files_of_stage(plan, "ensemble"))
    record(files_of_stage(plan, "submit"))


def timed(words: list[str], folder: Path) -> list[float]:
    """Seconds of seven runs."""
    seconds = []
    for _ in range(7):
        began = time.perf_counter()
        subprocess.run(words, cwd=folder, env=environment(), check=True, capture_output=True)
        seconds.append(time.perf_counter() - began)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000)
    images = parser.parse_args().images
    with tempfile.TemporaryDirectory() as temporary:
        checkout = new_checkout(Path(temporary))
        home = checkout / "data" / "many"
        for number in range(images):
            split = f"train/{number % 10}" if number % 2 else "test"
            path = home / "raw" / split / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(number.to_bytes(4, "big") * 100)
        (home / "competition.toml").write_text(TOML)
        places.ROOT = checkout
        time.sleep(0.1)
        finish(make_plan(Options("many")))
        for words in (["make", "submit", "COMPETITION=many"], ["make", "why", "COMPETITION=many"]):
            seconds = timed(words, checkout)
            print(f"{' '.join(words)}: {median(seconds):.3f} s ({min(seconds):.3f} to {max(seconds):.3f}), n = 7")
        said = subprocess.run(
            ["make", "submit", "COMPETITION=many"], cwd=checkout, env=environment(), capture_output=True
        )
        assert b"nothing to do" in said.stdout, said
        for stage in STAGES:
            seconds = timed([sys.executable, "-m", f"pipeline.{stage}", "--help"], checkout)
            print(f"{stage} --help: {median(seconds):.3f} s ({min(seconds):.3f} to {max(seconds):.3f})")
        shutil.rmtree(home)


if __name__ == "__main__":
    main()
