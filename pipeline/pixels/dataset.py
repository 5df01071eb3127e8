"""From manifest rows to batches of uint8 images, in an order and with draws that are functions of (seed, epoch, image).

Legend: B batch, S image side; images (B, S, S, 3) uint8; rows (B,) int64, positions in the dataset.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import cv2
import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from pipeline.pixels.augment import Augmenter, draw_key
from pipeline.pixels.cache import Pixels
from pipeline.pixels.workers import AHEAD, PATIENCE, limit_workers, start_worker, worker_error
from pipeline.system.console import progress
from pipeline.system.errors import FoldwiseError
from pipeline.system.processes import end_children

Key = tuple[int, int]  # (epoch, row)
Batch = tuple[torch.Tensor, torch.Tensor]  # images, rows


class ImageDataset(Dataset):
    """Transformed pictures of ``rows`` (image_id, and ``position`` among the pixels) by (epoch, row).

    transforms: by epoch; the last serves all later ones. The draw for a picture depends on (seed, epoch, its id) alone.
    alternating_flip: mirror each picture in every other epoch, from a side of its own (Jordan, 2024), instead of
    by chance.
    """

    def __init__(
        self, pixels: Pixels, rows: pd.DataFrame, transforms: list[Augmenter], seed: int = 0,
        alternating_flip: bool = False,
    ) -> None:  # fmt: skip
        self.pixels, self.transforms, self.seed, self.alternating_flip = pixels, transforms, seed, alternating_flip
        self.positions = rows["position"].tolist()
        self.ids = rows["image_id"].tolist()
        self.id_hashes = [zlib.crc32(image_id.encode()) for image_id in self.ids]

    def __len__(self) -> int:
        return len(self.ids)

    def transform_at(self, epoch: int) -> Augmenter:
        """The transform of an epoch."""
        return self.transforms[min(epoch, len(self.transforms) - 1)]

    def key(self, epoch: int, row: int) -> int:
        """What the draws for a picture are a function of."""
        return draw_key(self.seed, epoch, self.id_hashes[row])

    def is_mirrored(self, epoch: int, row: int) -> bool:
        """Whether the flip that alternates turns this picture in this epoch."""
        return self.alternating_flip and (draw_key(self.seed, self.id_hashes[row]) + epoch) % 2 == 1

    def __getitem__(self, key: Key) -> np.ndarray:
        return self.make(*key)

    def make(self, epoch: int, row: int, out: np.ndarray | None = None) -> np.ndarray:
        """The picture of a row in an epoch, (S, S, 3) uint8, in ``out`` if there is one."""
        picture = self.pixels[self.positions[row]]
        return self.transform_at(epoch)(picture, self.key(epoch, row), self.is_mirrored(epoch, row), out)

    def __getitems__(self, keys: list[Key]) -> Batch | FoldwiseError | MemoryError:
        """A whole batch of one epoch, each picture written once, into its place. An expected fault is returned, for
        the loader to raise: from a loader's process it would come with that process's traceback in its message."""
        side = self.transform_at(keys[0][0]).side
        try:
            images = np.empty((len(keys), side, side, 3), np.uint8)
            for (epoch, row), out in zip(keys, images, strict=True):
                self.make(epoch, row, out)
        except (FoldwiseError, MemoryError) as fault:
            return fault
        return torch.from_numpy(images), torch.tensor([row for _, row in keys])


class EpochBatches(Sampler[list[Key]]):
    """Batches of (epoch, row) keys: shuffled by (seed, epoch), without the last short batch; or all rows in order.

    Set ``epoch`` and ``start`` (the first batch wanted) before each pass; ``limit`` ends it early, for a dry run.
    share: (rank, size) of a process among those that do the same work: its part of every shuffled batch, or every
    size-th of the batches in order, which so are the same batches for any size.
    """

    def __init__(
        self, num_rows: int, batch_size: int, seed: int | None = None, limit: int | None = None,
        share: tuple[int, int] = (0, 1),
    ) -> None:  # fmt: skip
        self.num_rows, self.batch_size = num_rows, min(batch_size, num_rows)
        self.seed, self.limit, self.share = seed, limit, share
        self.epoch = self.start = 0

    def __len__(self) -> int:
        return len(self._starts())

    def _starts(self) -> range:
        """Where in the order the batches begin of which this process has a part."""
        whole, rest = divmod(self.num_rows, self.batch_size)
        batches = whole + (rest > 0 and self.seed is None)
        starts = range(0, min(batches, self.limit or batches) * self.batch_size, self.batch_size)
        rank, size = self.share
        return starts[rank::size] if self.seed is None else starts

    def order(self) -> np.ndarray:
        """Rows of the epoch (num_rows,) int64, in their order."""
        rows = np.arange(self.num_rows)
        return rows if self.seed is None else np.random.default_rng([self.seed, self.epoch]).permutation(rows)

    def __iter__(self) -> Iterator[list[Key]]:
        order = self.order()
        part = slice(None) if self.seed is None else slice(self.share[0], None, self.share[1])
        for start in self._starts()[self.start :]:
            yield [(self.epoch, int(row)) for row in order[start : start + self.batch_size][part]]


def whole_batch(batch: Any) -> Any:
    """The collate function: ``__getitems__`` has made the batch already."""
    return batch


class Batches(Protocol):
    """What the loop reads from: a number of batches by epoch."""

    def __len__(self) -> int: ...

    def epoch(self, epoch: int = 0, start: int = 0) -> Iterator[Batch]:
        """Yields (images, rows) of one epoch from batch ``start``."""
        ...


class WithProgress:
    """Batches whose passes show their progress."""

    def __init__(self, batches: Batches, stage: str, doing: str) -> None:
        self.batches, self.stage, self.doing = batches, stage, doing

    def __len__(self) -> int:
        return len(self.batches)

    def epoch(self, epoch: int = 0, start: int = 0) -> Iterator[Batch]:
        """Yields (images, rows) of one epoch from batch ``start``."""
        return progress(self.batches.epoch(epoch, start), len(self) - start, self.stage, self.doing)


class Interruptible:
    """Batches; ``check`` is called before each and may raise an exception to end the pass."""

    def __init__(self, batches: Batches, check: Callable[[], None]) -> None:
        self.batches, self.check = batches, check

    def __len__(self) -> int:
        return len(self.batches)

    def epoch(self, epoch: int = 0, start: int = 0) -> Iterator[Batch]:
        """Yields (images, rows) of one epoch from batch ``start``."""
        for batch in self.batches.epoch(epoch, start):
            self.check()
            yield batch


class Loader:
    """Batches of a dataset, epoch by epoch; the processes, if any, live as long as the loader."""

    def __init__(self, dataset: ImageDataset, batches: EpochBatches, workers: int, pin: bool) -> None:
        cv2.setNumThreads(0)  # images are many and small: one thread each
        self.dataset, self.batches = dataset, batches
        side = max(transform.side for transform in dataset.transforms)
        self.workers = limit_workers(workers, batches.batch_size * side * side * 3)
        self.loader: DataLoader | None = None  # none: the batches are made right here, in 0.93 of the time
        if self.workers or pin:
            self.loader = DataLoader(
                dataset, batch_sampler=self.batches, collate_fn=whole_batch, num_workers=self.workers, pin_memory=pin,
                persistent_workers=self.workers > 0, worker_init_fn=start_worker,
                prefetch_factor=AHEAD if self.workers else None, timeout=PATIENCE if self.workers else 0,
            )  # fmt: skip

    def __len__(self) -> int:
        """Batches in a whole epoch."""
        return len(self.batches)

    def epoch(self, epoch: int = 0, start: int = 0) -> Iterator[Batch]:
        """Yields (images, rows) of one epoch from batch ``start``; raises FoldwiseError for a picture that cannot be
        made, or when a loader process dies."""
        self.batches.epoch, self.batches.start = epoch, start
        made = start
        try:
            for batch in map(self.dataset.__getitems__, self.batches) if self.loader is None else self.loader:
                if isinstance(batch, Exception):
                    end_children()
                    raise batch
                images, rows = batch
                made += 1
                yield images, rows.clone()  # the epoch keeps them, and a loader's tensor holds a file open
        except (RuntimeError, ConnectionError, EOFError) as error:
            self.batches.start = min(made, len(self.batches) - 1)
            _, first = next(iter(self.batches))[0]
            last = made + AHEAD * self.workers
            what = f"batches {made + 1} to {last} of epoch {epoch + 1}, from image '{self.dataset.ids[first]}' on"
            fault = worker_error(error, what)
            if fault is None:
                raise
            end_children()
            raise fault from error
