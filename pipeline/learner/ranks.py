"""One fold by several processes, its ranks: each takes its part of every batch, and torch averages their gradients.

torchrun starts them, on one machine or on many (``make train GPUS=4``; README, "Beyond one GPU"). All go through the
same lines of a stage; the first says and writes what there is to say and write. The batches, their order and the draws
for each picture are those of a single process; what differs is BatchNorm, which sees a rank's part of a batch (unless
``sync_batchnorm``), and the partners and draws of mixing and dropout.

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
from pipeline.system.errors import FoldwiseError
from pipeline.system.processes import end_with_parent, is_of_ranks, rank

T = TypeVar("T")

#: How long a rank waits for one that is silent, such as on a machine that lost power. One that dies is noticed at once.
PATIENCE = timedelta(minutes=10)


@dataclass(frozen=True)
class Ranks:
    """This process's place among those of its fold: ``rank`` of ``size``, ``beside`` of them on this machine."""

    rank: int = 0
    size: int = 1
    beside: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    @property
    def share(self) -> tuple[int, int]:
        """What tells its part of the batches to EpochBatches."""
        return self.rank, self.size

    def require_divisible(self, batch_size: int) -> None:
        """Raises FoldwiseError where a batch has no image for some rank."""
        if batch_size < self.size:
            raise FoldwiseError(
                f"a batch of {batch_size} images cannot be divided among {self.size} processes; take fewer, or a "
                "larger batch_size"
            )

    def description(self, batch_size: int) -> str:
        """``", 4 processes, 64 images a step"``, or nothing of a process by itself."""
        return f", {self.size} processes, {batch_size} images a step" if self.size > 1 else ""

    def gather(self, value: T) -> list[T]:
        """Everyone's values, in the order of ranks."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def require_same(self, what: str, value: str) -> None:
        """Raises FoldwiseError, naming a machine, unless all ranks have the same ``value``."""
        for host, other in self.gather((socket.gethostname(), value)):
            if other != value:
                raise FoldwiseError(
                    f"{what} on {host} differ from those on {socket.gethostname()}; all machines must see the same "
                    "checkout, data and runs, in one shared folder"
                )

    def any(self, *flags: bool) -> list[bool]:
        """Of each flag, whether some rank has raised it."""
        if self.size == 1:
            return list(flags)
        raised = torch.tensor(flags, dtype=torch.uint8)
        dist.all_reduce(raised, dist.ReduceOp.MAX)
        return raised.bool().tolist()

    @contextmanager
    def first_goes_first(self) -> Iterator[None]:
        """The first rank does what is within, then the others."""
        if not self.is_first:
            self.wait()
        yield
        if self.is_first:
            self.wait()

    def wait(self) -> None:
        """Until all are here."""
        self.any(False)

    def replicate(self, module: nn.Module) -> nn.Module:
        """The module as the loop calls it: itself, or one that averages the gradients of all ranks (Li et al., VLDB
        2020) and takes the first rank's BatchNorm statistics. Made anew where other weights begin to learn."""
        if self.size == 1:
            return module
        device = next(module.parameters()).device
        return DistributedDataParallel(module, device_ids=[device] if device.type == "cuda" else None)

    def averaging(self, replica: nn.Module, now: bool) -> AbstractContextManager:
        """Around a forward pass: gradients are averaged as its backward pass makes them, or, where not ``now``, once
        with those of a later part of the batch."""
        return nullcontext() if now or not isinstance(replica, DistributedDataParallel) else replica.no_sync()

    def gather_step(
        self, loss: torch.Tensor, logits: torch.Tensor, rows: torch.Tensor, batch_size: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Loss (scalar), logits (B, C) and rows (B,) of a whole batch from the ranks' parts, in the batch's order.
        Nothing waits for a GPU."""
        if self.size == 1:
            return loss, logits, rows
        dist.all_reduce(loss)
        return loss, self._interleaved(logits, batch_size), self._interleaved(rows, batch_size)

    def _interleaved(self, part: torch.Tensor, batch_size: int) -> torch.Tensor:
        """(B, ...) of which each rank has ``[rank::size]``."""
        padded = part.new_zeros((-(-batch_size // self.size), *part.shape[1:]))
        padded[: len(part)] = part
        parts = [torch.empty_like(padded) for _ in range(self.size)]
        dist.all_gather(parts, padded)
        return torch.stack(parts, dim=1).flatten(0, 1)[:batch_size]

    def share_buffers(self, module: nn.Module) -> None:
        """All take the first rank's buffers, such as the statistics of BatchNorm: those that are saved."""
        if self.size > 1:
            for buffer in module.buffers():
                dist.broadcast(buffer, src=0)

    def synchronized(self, module: nn.Module, device: torch.device) -> nn.Module:
        """The module with BatchNorm over whole batches instead of each rank's part; raises FoldwiseError on a CPU."""
        if self.size == 1:
            return module
        if device.type != "cuda":
            raise FoldwiseError("sync_batchnorm = true needs GPUs; leave it out on a CPU")
        return convert_sync_batchnorm(module)


#: A process that trains a fold by itself.
ALONE = Ranks()


def device_of(name: str, here: Ranks, local_rank: int) -> torch.device:
    """The device of one of the ranks on this machine: its own GPU, or its part of the CPU. Raises FoldwiseError where
    there are fewer GPUs."""
    if name not in ("auto", "cpu", "cuda"):
        find_device(name)
        raise FoldwiseError(f"DEVICE={name} is one device, for {here.size} processes; leave it out")
    if name == "cpu" or not torch.cuda.is_available():
        return find_device("cpu" if name == "auto" else name)
    gpus = torch.cuda.device_count()
    if gpus < here.beside:
        raise FoldwiseError(f"{here.beside} GPUs were asked for and this machine has {gpus}; type GPUS={gpus}")
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)


@contextmanager
def join_ranks(name: str) -> Iterator[tuple[Ranks, torch.device]]:
    """This process's ranks and its device of the kind ``name``. Raises FoldwiseError when another of them ends."""
    here = ALONE
    if is_of_ranks():
        here = Ranks(rank(), int(os.environ["WORLD_SIZE"]), int(os.environ["LOCAL_WORLD_SIZE"]))
    if here.size == 1:
        yield here, find_device(name)
        return
    end_with_parent()
    device = device_of(name, here, int(os.environ["LOCAL_RANK"]))
    try:
        # What ranks tell each other from the host goes by gloo, which notices at once when one ends.
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
        yield here, device
        here.wait()
    except (dist.DistError, RuntimeError) as error:
        if not lost_a_rank(error):
            raise
        raise FoldwiseError(
            "another process of this fold ended or is out of reach; the same command goes on after the last checkpoint "
            f"({str(error).splitlines()[0]})"
        ) from error
    dist.destroy_process_group()


def lost_a_rank(error: Exception) -> bool:
    """Whether an error of torch's says that another rank is gone."""
    words = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "Timed out waiting", "gloo")
    return isinstance(error, dist.DistError) or any(word in str(error) for word in words)
