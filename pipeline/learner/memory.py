"""Brings the work to the memory of a device: batches in parts, and images that stay there.

With several folds side by side on one GPU, each gets its share of the memory, so that what fits does not depend on what
the others hold at that moment.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from pipeline.system.console import folds_at_once
from pipeline.system.errors import MachineError, is_out_of_memory

#: Fraction of the memory that a training step leaves free on a GPU that the kept images may take.
MAX_KEPT_FRACTION = 0.5
#: Largest size, in bytes, of images that are kept on other devices.
MAX_KEPT_BYTES = 2**28
#: Memory in bytes that each process takes on a GPU beside its tensors: its CUDA context and the code of its kernels.
CONTEXT_BYTES = 600 * 2**20


class Room:
    """What is left of the bytes of images that may stay on a device."""

    def __init__(self, num_bytes: int) -> None:
        self.left = num_bytes

    def takes(self, num_bytes: int) -> bool:
        """True if so many bytes still fit; they are then taken."""
        fits = num_bytes <= self.left
        self.left -= num_bytes if fits else 0
        return fits


def share_of_memory(device: torch.device) -> int:
    """The bytes of a GPU's memory that this process may use: all, or its share among folds side by side."""
    total, beside = torch.cuda.get_device_properties(device).total_memory, folds_at_once()
    return total if beside == 1 else max(total // 100, total // beside - CONTEXT_BYTES)


def limit_memory(device: torch.device) -> None:
    """Limits the tensors of this process to its share of the GPU's memory, if folds train side by side."""
    if device.type == "cuda" and folds_at_once() > 1:
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(share_of_memory(device) / total, device)


def bytes_to_keep(device: torch.device) -> int:
    """How many bytes of images may stay on the device; on a GPU, call it after the trial step.

    The largest memory that the trial step used is left to the training.
    """
    if device.type != "cuda":
        return MAX_KEPT_BYTES
    torch.cuda.empty_cache()
    free = min(torch.cuda.mem_get_info(device)[0], share_of_memory(device))
    return max(0, int(MAX_KEPT_FRACTION * (free - torch.cuda.max_memory_reserved(device))))


def parts_that_fit(attempt: Callable[[int], object], parts: int, batch_size: int) -> int:
    """Doubles ``parts`` until ``attempt(parts)`` no longer runs out of memory; returns the new number.

    The batch of an optimizer step stays the same. Raises FoldwiseError if even a single image does not fit.
    """
    while True:
        try:
            attempt(parts)
            return parts
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if parts >= batch_size:
                raise too_small(error) from error
        parts = min(2 * parts, batch_size)
        torch.cuda.empty_cache()


def in_parts(function: Callable[[torch.Tensor], torch.Tensor], batch: torch.Tensor) -> torch.Tensor:
    """The output (B, ...) of a function for a batch (B, ...); if it does not fit, of one half after the other.

    Raises FoldwiseError if even a single image does not fit.
    """
    try:
        return function(batch)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        if len(batch) == 1:
            raise too_small(error) from error
    torch.cuda.empty_cache()
    return torch.cat([in_parts(function, half) for half in batch.chunk(2)])


def too_small(error: RuntimeError) -> MachineError:
    """The error for a memory that does not hold a single image."""
    said = next(iter(str(error).splitlines()), "out of memory")
    return MachineError(
        f"the memory of the GPU is too small for one image at a time ({said}); use a smaller image_size or model, or "
        "stop other programs on the GPU"
    )
