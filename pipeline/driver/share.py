"""Decides how folds share this machine: how many train at once, with how many threads and processes each."""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from functools import cache

from pipeline.system.errors import InputError
from pipeline.system.threads import cores, share_cores

#: Largest image side (pixels) at which several folds train at once on one GPU, and GPU memory (MiB) for each of them.
SMALL_SIDE, SMALL_MEMORY = 96, 4096


@cache
def gpu_memory() -> list[int]:
    """Memory of each GPU in MiB, as nvidia-smi reports it; [] without a GPU."""
    try:
        asked = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
        answer = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=True).stdout
        return [int(line) for line in answer.split()]
    except (OSError, subprocess.SubprocessError, ValueError):
        return []


def share_machine(num_folds: int, image_size: int, device: str) -> tuple[int, list[int]]:
    """Returns (number of folds side by side, threads of each fold in order).

    A GPU trains one fold at a time or, with small images, as many as its memory and the cores allow. On a CPU, the
    folds divide the cores.
    """
    memory = next(iter(gpu_memory()), 0) if device in ("auto", "cuda") else 0
    has_mps = device == "auto" and sys.platform == "darwin" and platform.machine() == "arm64"
    if memory or has_mps or device not in ("auto", "cpu"):
        beside = min(num_folds, memory // SMALL_MEMORY, cores()) if image_size <= SMALL_SIDE else 1
        return max(1, beside), [cores() // max(1, beside)] * num_folds
    return share_cores(num_folds, cores())


def ranks_of(gpus: str, cpus: str, cluster: str, device: str) -> int:
    """Number of processes (ranks) that train one fold on this machine: GPUS, at most one for each GPU.

    Without a GPU, at most one for each core. On a cluster it is 1, since the other machines start the ranks; there,
    GPUS may be a fraction, and CPUS is allowed. Raises FoldwiseError for an invalid number.
    """
    if cpus and (not cluster or not re.fullmatch("[0-9]{1,6}", cpus) or int(cpus) < 1):
        raise InputError(f"CPUS={cpus} is invalid: it needs CLUSTER, and a whole number such as CPUS=4")
    parts = r"0|0?\.[0-9]+|" if cluster else ""
    if not re.fullmatch(rf"({parts}[1-9][0-9]*)", gpus or "1"):
        raise InputError(f"GPUS={gpus} is not a number of GPUs, such as GPUS=4; with CLUSTER=auto also GPUS=0.5")
    if cluster:
        return 1
    ranks, here = int(gpus or 1), 0 if device == "cpu" else len(gpu_memory())
    if ranks > max(1, here or cores()):
        has = f"{here} GPUs" if here else f"no GPU and {cores()} cores"
        raise InputError(f"GPUS={gpus} is too many: this machine has {has}; use torchrun for several machines")
    return ranks
