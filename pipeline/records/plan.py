"""Tells the Makefile what a call comes to: recipe, run, folds. Standard library only, so that it answers
before anything is installed.

    python3 -m pipeline.records.plan COMPETITION [--recipe R] [--set key=value ...] [--folds 0,1]
"""

from __future__ import annotations

import argparse
import platform
import re
import subprocess
import sys
import time
from functools import cache

if not (3, 11) <= sys.version_info < (3, 15):  # as in pyproject.toml; said before anything newer is imported
    found = f"{sys.version_info[0]}.{sys.version_info[1]}"
    sys.exit(f"error: Foldwise needs Python 3.11 to 3.14, this is {found}; name another: make PYTHON=python3.12")

from pipeline.records.errors import FoldwiseError
from pipeline.records.paths import MAX_FOLDS, Paths, parse_folds, partial_name, recipe_path, run_name, shown
from pipeline.records.threads import cores, share_cores
from pipeline.records.toml import read_toml

#: Image side up to which several folds train at once on one GPU, and the memory (MiB) that each is then given.
SMALL_SIDE, SMALL_MEMORY = 96, 4096


@cache
def gpu_memory() -> list[int]:
    """MiB of each GPU's memory as its driver tells."""
    try:
        asked = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
        told = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=True).stdout
        return [int(line) for line in told.split()]
    except (OSError, subprocess.SubprocessError, ValueError):
        return []


def arrange(num_folds: int, image_size: int, device: str) -> tuple[int, list[int]]:
    """(folds side by side, threads of each). A GPU trains one fold at a time, or as many small ones as its memory
    and the cores allow; a CPU divides its cores."""
    memory = next(iter(gpu_memory()), 0) if device in ("auto", "cuda") else 0
    is_mac = (
        device == "auto" and sys.platform == "darwin" and platform.machine() == "arm64"
    )  # which has a GPU of its own
    if memory or is_mac or device not in ("auto", "cpu"):
        beside = min(num_folds, memory // SMALL_MEMORY, cores()) if image_size <= SMALL_SIDE else 1
        return max(1, beside), [cores() // max(1, beside)] * num_folds
    return share_cores(num_folds, cores())


#: Seconds of HOURS that are kept for the stages after training to begin and end.
KEPT_BACK = 30


def end_of(hours: str) -> str:
    """Seconds since 1970 at which training must end, for all to be done in HOURS from now; '' for no limit. Raises
    FoldwiseError for no number."""
    try:
        return hours and f"{time.time() + float(hours) * 3600 - KEPT_BACK:.0f}"
    except (ValueError, OverflowError) as error:
        raise FoldwiseError(f"HOURS={hours} is not a number of hours, such as HOURS=8.5") from error


def ranks_of(gpus: str, cpus: str, cluster: str, device: str) -> int:
    """Processes that train a fold on this machine, one for each of GPUS, or of the cores where there are none; a
    cluster's machines take care of their own, where a fold may also ask for a part of a GPU, and for CPUS. Raises
    FoldwiseError for numbers that cannot be."""
    if cpus and (not cluster or not cpus.isdecimal() or int(cpus) < 1):
        raise FoldwiseError(f"CPUS={cpus}: it goes with CLUSTER, and is a whole number for each fold, such as CPUS=4")
    parts = r"0|0?\.\d+|" if cluster else ""
    if not re.fullmatch(rf"({parts}[1-9]\d*)", gpus or "1"):
        raise FoldwiseError(f"GPUS={gpus} is no number of GPUs, such as GPUS=4; with CLUSTER=auto also GPUS=0.5")
    if cluster:
        return 1
    ranks, here = int(gpus or 1), 0 if device == "cpu" else len(gpu_memory())
    if ranks > max(1, here or cores()):
        has = f"{here} GPUs" if here else f"no GPU and {cores()} cores"
        raise FoldwiseError(f"GPUS={gpus} is too many: this machine has {has}; torchrun takes several machines")
    return ranks


def plan(
    competition: str, recipe: str, settings: list[str], folds: str, device: str, hours: str,
    gpus: str = "", cpus: str = "", cluster: str = "",
) -> dict[str, str]:  # fmt: skip
    """Make variables for one call; raises FoldwiseError as the stages would."""
    toml = Paths(competition).toml
    facts = read_toml(toml)
    table = facts.get("folds", {})
    num_folds = table.get("n", 5) if isinstance(table, dict) else table
    if type(num_folds) is not int or not 2 <= num_folds <= MAX_FOLDS:
        raise FoldwiseError(f"{shown(toml)}: folds.n = {num_folds!r} is not a whole number from 2 to {MAX_FOLDS}")
    recipe = recipe or str(facts.get("recipe", "resnet18"))
    content = read_toml(recipe_path(recipe))
    sizes = [str(content.get("image_size")), *(text[11:] for text in settings if text.startswith("image_size="))]
    run = run_name(recipe, settings)
    chosen = parse_folds(folds, num_folds)
    ranks = ranks_of(gpus, cpus, cluster, device)
    beside, threads = arrange(len(chosen), int(sizes[-1]) if sizes[-1].isdecimal() else 224, device)
    if ranks > 1 or cluster:  # each fold has the whole machine, or others
        beside, threads = 1, [cores()] * len(chosen)
    return {
        "RECIPE_NAME": recipe,
        "RUN": run,
        "NAME": partial_name(run, chosen, num_folds),
        "CHOSEN": " ".join(map(str, chosen)),
        "BESIDE": str(beside),
        # The folds of the last round get other threads than the rounds before, and wait for them.
        "LAST_ROUND": " ".join(map(str, chosen[len(chosen) - len(chosen) % beside :])),
        **{f"THREADS_OF_{fold}": str(number) for fold, number in zip(chosen, threads, strict=True)},
        "UNTIL": end_of(hours),
        "RANKS": str(ranks) if ranks > 1 else "",
        "PARTIAL": "" if len(chosen) == num_folds else ",".join(map(str, chosen)),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("competition")
    parser.add_argument("--recipe", default="")
    parser.add_argument("--set", nargs="*", default=[], dest="settings")
    parser.add_argument("--folds", default="")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--hours", default="")
    parser.add_argument("--gpus", default="")
    parser.add_argument("--cpus", default="")
    parser.add_argument("--cluster", default="")
    args = parser.parse_args()
    try:
        # A word a variable, spaces as '|': what make's $(shell) hands on without a temporary file.
        variables = plan(**{**vars(args), "device": args.device or "auto"})
        print(*(f"{name}:={value.replace(' ', '|')}" for name, value in variables.items()))
    except FoldwiseError as fault:
        sys.exit(f"error: {fault}")
