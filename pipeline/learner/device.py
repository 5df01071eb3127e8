"""The machine: which device, how many threads, which number type. It never changes a result beyond rounding."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager

import torch

from pipeline.records.errors import FoldwiseError
from pipeline.records.threads import cores


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


def share_cores(jobs: int) -> int:
    """Gives this process its part of the cores, when ``jobs`` folds run side by side; returns its threads."""
    threads = max(1, min(torch.get_num_threads(), cores() // max(1, jobs)))
    torch.set_num_threads(threads)
    return threads


def choose_workers(workers: int | None, device: torch.device, jobs: int) -> int:
    """Loader processes: none on a CPU, whose cores are busy with the model; else the free cores, up to 8."""
    if workers is not None:
        return workers
    return 0 if device.type == "cpu" else min(8, max(1, cores() // max(1, jobs) - 1))


class Precision:
    """Autocast and loss scaling on CUDA; float32 elsewhere (bf16 loses on a CPU without AMX)."""

    def __init__(self, amp: str, device: torch.device) -> None:
        self.device = device
        self.dtype = torch.float32
        if device.type == "cuda" and amp != "off":
            wants_bf16 = amp == "bf16" or (amp == "auto" and torch.cuda.is_bf16_supported())
            self.dtype = torch.bfloat16 if wants_bf16 else torch.float16
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype is torch.float16)

    def autocast(self) -> AbstractContextManager:
        """The context of a forward pass."""
        if self.dtype is torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, self.dtype)
