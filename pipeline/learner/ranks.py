"""Trains one fold with several processes (ranks): each gets a part of every batch, and torch averages the gradients.

torchrun starts the ranks, on one machine or on many (``make train GPUS=4``; pipeline/driver/README.md, "One fold on
many GPUs"). All ranks run the same code of a stage; only the first one prints and writes. The batches, their order and
the random draws for each image do not depend on the number of ranks. Exceptions: BatchNorm uses the statistics of a
rank's part of the batch (unless ``sync_batchnorm`` is set), and Mixup, CutMix and dropout draw separately on each rank.

Legend: B batch, C classes.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from timm.layers import convert_sync_batchnorm
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from pipeline.learner.device import find_device
from pipeline.system.errors import InputError, MachineError
from pipeline.system.processes import end_with_parent, has_ranks, rank
from pipeline.system.signals import Stopped

T = TypeVar("T")

#: How long a rank waits for one that does not answer, for example after a power failure. If a process ends, the others
#: notice it at once.
RANK_TIMEOUT = timedelta(minutes=10)


@dataclass(frozen=True)
class Ranks:
    """This process among the processes (ranks) of its fold.

    rank: number of this process, from 0
    size: number of ranks
    local_size: number of ranks on this machine, with this one
    """

    rank: int = 0
    size: int = 1
    local_size: int = 1

    @property
    def is_first(self) -> bool:
        """True for the rank that prints and writes."""
        return self.rank == 0

    @property
    def share(self) -> tuple[int, int]:
        """(rank, size), by which EpochBatches selects the part of this rank."""
        return self.rank, self.size

    def require_divisible(self, batch_size: int) -> None:
        """Raises FoldwiseError if a batch has fewer images than there are ranks."""
        if batch_size < self.size:
            raise InputError(
                f"a batch of {batch_size} images cannot be divided among {self.size} processes; use fewer "
                "processes or a larger batch_size"
            )

    def description(self, batch_size: int) -> str:
        """``", 4 processes, 64 images a step"``; "" for a single process."""
        return f", {self.size} processes, {batch_size} images a step" if self.size > 1 else ""

    def gather(self, value: T) -> list[T]:
        """The values of all ranks, in the order of the ranks."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def require_same(self, what: str, value: str) -> None:
        """Raises FoldwiseError, with the name of a machine that differs, unless all ranks have the same ``value``."""
        for host, other in self.gather((socket.gethostname(), value)):
            if other != value:
                raise MachineError(
                    f"{what} on {host} differ from those on {socket.gethostname()}; all machines must see the same "
                    "checkout, data and runs, in one shared folder"
                )

    def any_rank(self, *flags: bool) -> list[bool]:
        """For each flag, True if it is set on any of the ranks."""
        if self.size == 1:
            return list(flags)
        raised = torch.tensor(flags, dtype=torch.uint8)
        dist.all_reduce(raised, dist.ReduceOp.MAX)
        return raised.bool().tolist()

    @contextmanager
    def first_rank_first(self) -> Iterator[None]:
        """Context manager: the first rank runs the block, then the others do."""
        if not self.is_first:
            self.wait()
        yield
        if self.is_first:
            self.wait()

    def wait(self) -> None:
        """Waits until all ranks have called this."""
        self.any_rank(False)

    def replicate(self, module: nn.Module) -> nn.Module:
        """The module that the training loop calls: for several ranks, a DistributedDataParallel (Li et al., VLDB 2020).

        It averages the gradients of all ranks and uses the first rank's BatchNorm statistics. Call this again when
        other weights start to learn.
        """
        if self.size == 1:
            return module
        device = next(module.parameters()).device
        return DistributedDataParallel(module, device_ids=[device] if device.type == "cuda" else None)

    def sync_gradients(self, replica: nn.Module, now: bool) -> AbstractContextManager:
        """Context manager for a forward pass: its backward pass averages the gradients of all ranks if ``now``.

        Otherwise they are averaged together with those of a later part of the batch.
        """
        if now or self.size == 1:
            return nullcontext()
        parallel: Any = getattr(replica, "_orig_mod", replica)  # torch.compile wraps it
        return parallel.no_sync()

    def gather_step(
        self, loss: torch.Tensor, logits: torch.Tensor, rows: torch.Tensor, batch_size: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Loss (scalar), logits (B, C) and rows (B,) of a whole batch, in its order, from the parts of the ranks.

        Does not wait for a GPU.
        """
        if self.size == 1:
            return loss, logits, rows
        dist.all_reduce(loss)
        return loss, self._interleaved(logits, batch_size), self._interleaved(rows, batch_size)

    def _interleaved(self, part: torch.Tensor, batch_size: int) -> torch.Tensor:
        """The whole (B, ...), of which each rank has the part ``[rank::size]``."""
        padded = part.new_zeros((-(-batch_size // self.size), *part.shape[1:]))
        padded[: len(part)] = part
        parts = [torch.empty_like(padded) for _ in range(self.size)]
        dist.all_gather(parts, padded)
        return torch.stack(parts, dim=1).flatten(0, 1)[:batch_size]

    def share_buffers(self, module: nn.Module) -> None:
        """Copies the first rank's buffers, such as BatchNorm statistics, to all ranks, since those are saved."""
        if self.size > 1:
            for buffer in module.buffers():
                dist.broadcast(buffer, src=0)

    def synchronized(self, module: nn.Module, device: torch.device) -> nn.Module:
        """The module with BatchNorm statistics of the whole batch, not a rank's part; raises FoldwiseError on a CPU."""
        if self.size == 1:
            return module
        if device.type != "cuda":
            raise InputError("sync_batchnorm = true needs GPUs; leave it out on a CPU")
        return convert_sync_batchnorm(module)


#: The groups that this process has left.
_LEFT: list[object] = []
#: A single process, without other ranks.
ALONE = Ranks()


def device_of(name: str, here: Ranks, local_rank: int) -> torch.device:
    """The device of a rank on this machine: a GPU for itself, or the CPU.

    Raises FoldwiseError if ``name`` is a single device such as cuda:1, or if there are fewer GPUs than ranks.
    """
    if name not in ("auto", "cpu", "cuda"):
        find_device(name)
        raise MachineError(f"DEVICE={name} is one device, but there are {here.size} processes; leave DEVICE out")
    if name == "cpu" or not torch.cuda.is_available():
        return find_device("cpu" if name == "auto" else name)
    gpus = torch.cuda.device_count()
    if gpus < here.local_size:
        raise MachineError(f"{here.local_size} GPUs were asked for and this machine has {gpus}; type GPUS={gpus}")
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)


@contextmanager
def join_ranks(name: str) -> Iterator[tuple[Ranks, torch.device]]:
    """Connects this process to the other ranks, if any; yields (ranks, device), with a device of the type ``name``.

    Raises FoldwiseError if another rank ends.
    """
    here = ALONE
    if has_ranks():
        here = Ranks(rank(), int(os.environ["WORLD_SIZE"]), int(os.environ["LOCAL_WORLD_SIZE"]))
    if here.size == 1:
        yield here, find_device(name)
        return
    end_with_parent()
    device = device_of(name, here, int(os.environ["LOCAL_RANK"]))
    try:
        # Tensors on the CPU are exchanged by gloo, which notices at once when a rank ends.
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=RANK_TIMEOUT)
        yield here, device
        here.wait()
    except Stopped:  # all ranks stop at the same step
        leave_group()
        raise
    except (dist.DistError, RuntimeError) as error:
        if not lost_a_rank(error):
            raise
        raise MachineError(
            f"another process of this fold ended or cannot be reached ({str(error).splitlines()[0]}); the same command "
            "continues after the last checkpoint"
        ) from error
    leave_group()


def leave_group() -> None:
    """Leaves the group of all ranks.

    When the group is freed, torch holds Python's lock (GIL) and waits for the threads of the group. Such a thread may
    still need the lock, to free the tensors of the last exchange, and then the process would never end. So the group is
    kept, and freed when the process ends.
    """
    _LEFT.append(dist.group.WORLD)
    dist.destroy_process_group()


def lost_a_rank(error: Exception) -> bool:
    """True if an error of torch means that another rank has ended or cannot be reached."""
    words = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "Timed out waiting", "gloo")
    return isinstance(error, dist.DistError) or any(word in str(error) for word in words)
