"""Finds the device, and applies the arrangement of a fold to torch: threads, memory layout, dtype.

arrangement.py chooses the arrangement. The rules here and there depend on the device, its memory, the sizes and the
amount of work, never on timings, since each choice changes the last bits of a result.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from pipeline.learner.small_maps import use_matrix_products
from pipeline.system.errors import MachineError


def find_device(name: str) -> torch.device:
    """The device of this name; ``auto`` is cuda if there is one, else mps, else cpu.

    A GPU becomes torch's current one, on which the functions of torch.cuda work that are not told a device.

    Raises FoldwiseError if the name is unknown or this machine has no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise MachineError(f"unknown device '{name}'; known: auto, cpu, cuda, cuda:1, mps") from error
    here = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if (device.index or 0) >= here.get(device.type, 0):
        raise MachineError(f"there is no device '{name}' on this machine; leave DEVICE out to choose it automatically")
    if device.type == "cuda":
        device = torch.device("cuda", device.index or 0)  # tensors are on a numbered device, also for "cuda"
        torch.cuda.set_device(device)
    return device


def seed_torch(device: torch.device, *key: int) -> None:
    """Seeds torch's generators, on the CPU and on the device, with a key such as (seed, fold, step, rank).

    Dropout, Mixup and CutMix then do not depend on the steps before, so that training can continue at any step. The
    generators are in the state that ``torch.manual_seed`` would bring them to, which takes 0.3 ms for all devices that
    torch knows.
    """
    seed = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0])
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)


def keep_freed_memory() -> None:
    """Makes glibc keep the memory that the model frees in each step, instead of returning it to the system.

    To get it back page by page would take a few per cent of a step on a CPU, and half of it for maps of more than
    32 MB. Does nothing without glibc.
    """
    if not sys.platform.startswith("linux"):
        return
    with contextlib.suppress(OSError, AttributeError):  # another C library, such as musl
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_MAX, 0)  # no memory outside the heap, which glibc would use from 32 MB on
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)  # the largest value: the heap never shrinks


_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h


def choose_workers(workers: int | None, device: torch.device, cached: bool, threads: int) -> int:
    """Number of loader processes: ``workers`` if it is given, else a number that depends on the device.

    On a CPU there are none, since the model uses all cores. Otherwise there is one for each of this process's
    ``threads`` but one: at most 4 if the decoded images are ``cached``, else at most 16.
    """
    if workers is not None:
        return workers
    return 0 if device.type == "cpu" else min(4 if cached else 16, max(1, threads - 1))


@dataclass(frozen=True)
class Arrangement:
    """How a fold is computed.

    threads: CPU threads of each rank
    channels_last: True for this memory layout, False for contiguous tensors
    dtype: "float32", or the dtype of autocast, "bfloat16" or "float16"
    compiled: True if the model is compiled
    parts: number of parts in which a batch, or the part of a batch that a rank gets, passes through the model
    deterministic: True to use only CUDA algorithms that repeat bit for bit
    ranks: number of ranks (processes) that train the fold together
    kept_bytes: bytes of images that may stay in the device's memory, see memory.py. On a GPU, the training images that
        stay there are also cropped there, which can change the last bits
    """

    threads: int
    channels_last: bool
    dtype: str
    compiled: bool
    parts: int
    deterministic: bool
    ranks: int = 1
    kept_bytes: int = 0

    def set_up(self) -> None:
        """Applies threads, memory and determinism to the whole process; call it before the first step."""
        torch.set_num_threads(self.threads)
        keep_freed_memory()
        if self.deterministic:  # docs.pytorch.org, "Reproducibility"
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            torch.backends.cudnn.benchmark = False
            settings: Any = torch.utils.deterministic
            settings.fill_uninitialized_memory = False  # it takes time, and nothing here reads such memory
        torch.use_deterministic_algorithms(self.deterministic)

    def as_dict(self) -> dict[str, Any]:
        """The fields as plain values, for the files that record them."""
        return asdict(self)

    def place(self, module: nn.Module, device: torch.device) -> nn.Module:
        """Moves the module to the device, in the memory layout of its input; on a CPU, with fast small maps."""
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        placed = module.to(device).to(memory_format=layout)
        return use_matrix_products(placed) if device.type == "cpu" else placed


class Precision:
    """Autocast and loss scaling on a device, with the dtype of an arrangement."""

    def __init__(self, arrangement: Arrangement, device: torch.device) -> None:
        self.device = device
        self.dtype = getattr(torch, arrangement.dtype)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype is torch.float16)

    def autocast(self) -> AbstractContextManager:
        """Context manager for a forward pass."""
        if self.dtype is torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, self.dtype)
