"""The machine: which device, how many threads, which layout and number type.

The rules below are fixed functions of device, size and work, never a timing, since each choice changes the last bits
of a result. A fold writes them down before its first step and keeps to them when it goes on.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from pipeline.learner.small_maps import use_kernel_products
from pipeline.system.errors import FoldwiseError


def find_device(name: str) -> torch.device:
    """``auto`` is cuda, else mps, else cpu; raises FoldwiseError for a device that is not here."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise FoldwiseError(f"unknown device '{name}'; known: auto, cpu, cuda, cuda:1, mps") from error
    here = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if (device.index or 0) >= here.get(device.type, 0):
        raise FoldwiseError(f"there is no device '{name}' on this machine; leave DEVICE out to take what there is")
    return device


def keep_freed_memory() -> None:
    """Tells glibc to keep what the model frees in each step, instead of handing it back to the system and fetching
    it again page by page: a few per cent of a step on a CPU. Other systems keep it anyway, or are left alone."""
    if not sys.platform.startswith("linux"):
        return
    with contextlib.suppress(OSError, AttributeError):  # another C library, such as musl
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, value in ((_M_MMAP_THRESHOLD, 2**25), (_M_TRIM_THRESHOLD, 2**31 - 1)):  # both as far as they go
            mallopt(parameter, value)


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


def choose_workers(workers: int | None, device: torch.device, cached: bool, threads: int) -> int:
    """Loader processes: none on a CPU, whose cores are busy with the model; else all of this process's ``threads`` but
    one, up to 4 where the pictures are decoded already and up to 16 where they are not."""
    if workers is not None:
        return workers
    return 0 if device.type == "cpu" else min(4 if cached else 16, max(1, threads - 1))


@dataclass(frozen=True)
class Arrangement:
    """How a fold is computed: threads of the CPU, memory layout, number type, whether the model is compiled, in how
    many parts a batch passes through it, whether CUDA must take the ways that repeat bit for bit, and by how many ranks
    (processes), each with these threads and with its part of a batch in these parts."""

    threads: int
    channels_last: bool
    dtype: str
    compiled: bool
    parts: int
    deterministic: bool
    ranks: int = 1

    def set_up(self) -> None:
        """Tells torch, before the first step; for the whole process."""
        torch.set_num_threads(self.threads)
        keep_freed_memory()
        if self.deterministic:  # docs.pytorch.org, "Reproducibility"
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            torch.backends.cudnn.benchmark = False
            torch.use_deterministic_algorithms(True)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for the files that record it."""
        return asdict(self)

    def place(self, module: nn.Module, device: torch.device) -> nn.Module:
        """The module on the device, its weights laid out as its input will be; on a CPU, with fast small maps."""
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        placed = module.to(device).to(memory_format=layout)
        return use_kernel_products(placed) if device.type == "cpu" else placed


class Precision:
    """Autocast and loss scaling on a device, in the number type of an arrangement."""

    def __init__(self, arrangement: Arrangement, device: torch.device) -> None:
        self.device = device
        self.dtype = getattr(torch, arrangement.dtype)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype is torch.float16)

    def autocast(self) -> AbstractContextManager:
        """The context of a forward pass."""
        if self.dtype is torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, self.dtype)
