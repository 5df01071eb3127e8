"""Decides how folds share this machine: how many train at once, with how many threads and processes each."""

from __future__ import annotations

import os
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
def installed_gpus() -> dict[str, int]:
    """Memory in MiB of each GPU of the machine by its UUID, as nvidia-smi reports them; {} without a GPU."""
    try:
        asked = ["nvidia-smi", "--query-gpu=uuid,memory.total", "--format=csv,noheader,nounits"]
        answer = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=True).stdout
        return {uuid: int(memory) for uuid, memory in (line.split(", ") for line in answer.splitlines())}
    except (OSError, subprocess.SubprocessError, ValueError):
        return {}


def gpu_memory() -> list[int]:
    """Memory in MiB of each GPU that CUDA_VISIBLE_DEVICES shows to torch, in its order; [] without a GPU.

    The variable holds numbers, or UUIDs or their beginnings; the first invalid one ends the list (CUDA Programming
    Guide, "Environment Variables"). The memory of a part of a GPU (MIG) is unknown here, and counts as 0.
    """
    installed, shown = installed_gpus(), os.environ.get("CUDA_VISIBLE_DEVICES")
    if shown is None or not installed:
        return list(installed.values())
    memory = []
    for name in map(str.strip, shown.split(",")):
        matching = [uuid for uuid in installed if name.startswith("GPU-") and uuid.startswith(name)]
        if name.isdecimal() and int(name) < len(installed):
            memory.append(list(installed.values())[int(name)])
        elif len(matching) == 1 or name.startswith("MIG-"):
            memory.append(installed[matching[0]] if matching else 0)
        else:
            break
    return memory


def share_machine(num_folds: int, image_size: int, device: str) -> tuple[int, list[int]]:
    """Returns (number of folds side by side, threads of each fold in order).

    A GPU trains one fold at a time or, with small images, as many as its memory and the cores allow. On a CPU, the
    folds divide the cores.
    """
    kind, _, number = device.partition(":")
    gpus = gpu_memory() if kind in ("auto", "cuda") else []
    has_mps = device == "auto" and sys.platform == "darwin" and platform.machine() == "arm64"
    if gpus or has_mps or kind not in ("auto", "cpu"):
        memory = dict(enumerate(gpus)).get(int(number or 0), 0)
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
