"""How the folds of a call share this machine: how many at once, with how many threads, by how many processes each."""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from functools import cache

from pipeline.system.errors import FoldwiseError
from pipeline.system.threads import cores, share_cores

#: Image side up to which several folds train at once on one GPU, and the memory (MiB) that each is then given.
SMALL_SIDE, SMALL_MEMORY = 96, 4096


@cache
def gpu_memory() -> list[int]:
    """MiB of each GPU's memory, from its driver."""
    try:
        asked = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
        answer = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=True).stdout
        return [int(line) for line in answer.split()]
    except (OSError, subprocess.SubprocessError, ValueError):
        return []


def share_machine(num_folds: int, image_size: int, device: str) -> tuple[int, list[int]]:
    """(folds side by side, threads of each). A GPU trains one fold at a time, or as many small ones as its memory
    and the cores allow; a CPU divides its cores."""
    memory = next(iter(gpu_memory()), 0) if device in ("auto", "cuda") else 0
    has_mps = device == "auto" and sys.platform == "darwin" and platform.machine() == "arm64"
    if memory or has_mps or device not in ("auto", "cpu"):
        beside = min(num_folds, memory // SMALL_MEMORY, cores()) if image_size <= SMALL_SIDE else 1
        return max(1, beside), [cores() // max(1, beside)] * num_folds
    return share_cores(num_folds, cores())


def ranks_of(gpus: str, cpus: str, cluster: str, device: str) -> int:
    """Processes that train a fold on this machine, one for each of GPUS, or of the cores where there are none; a
    cluster's machines take care of their own, where a fold may also ask for a part of a GPU, and for CPUS. Raises
    FoldwiseError for numbers that cannot be."""
    if cpus and (not cluster or not re.fullmatch("[0-9]{1,6}", cpus) or int(cpus) < 1):
        raise FoldwiseError(f"CPUS={cpus}: it goes with CLUSTER, and is a whole number for each fold, such as CPUS=4")
    parts = r"0|0?\.[0-9]+|" if cluster else ""
    if not re.fullmatch(rf"({parts}[1-9][0-9]*)", gpus or "1"):
        raise FoldwiseError(f"GPUS={gpus} is no number of GPUs, such as GPUS=4; with CLUSTER=auto also GPUS=0.5")
    if cluster:
        return 1
    ranks, here = int(gpus or 1), 0 if device == "cpu" else len(gpu_memory())
    if ranks > max(1, here or cores()):
        has = f"{here} GPUs" if here else f"no GPU and {cores()} cores"
        raise FoldwiseError(f"GPUS={gpus} is too many: this machine has {has}; torchrun takes several machines")
    return ranks
