"""Makes batches of uint8 images from manifest rows.

The order depends only on (seed, epoch), and the random draws for an image only on (seed, epoch, image_id).

Legend: B batch, H height, W width; images (B, H, W, 3) uint8; rows (B,) int64, positions in the dataset.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Protocol

import cv2
import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from pipeline.pixels.augment import Augmenter, random_key
from pipeline.pixels.cache import Pixels
from pipeline.pixels.workers import PREFETCH, TIMEOUT, limit_workers, start_worker, worker_error
from pipeline.system.console import progress
from pipeline.system.errors import FoldwiseError
from pipeline.system.processes import end_children

Key = tuple[int, int]  # (epoch, row)
Batch = tuple[torch.Tensor, torch.Tensor]  # images, rows


class ImageDataset(Dataset):
    """Transformed images by (epoch, row).

    pixels: the decoded images
    rows: table with image_id and ``position``, the index in ``pixels``
    transforms: one for each epoch; later epochs use the last one
    seed: the random draws for an image depend only on (seed, epoch, image_id)
    alternating_flip: mirror each image in every other epoch instead of at random; whether it starts mirrored depends
        on the image (Jordan, 2024)
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

    @property
    def row_bytes(self) -> int:
        """Largest number of bytes that a row takes in a batch."""
        return max(math.prod(transform.size) for transform in self.transforms) * 3

    def transform_at(self, epoch: int) -> Augmenter:
        """The transform of an epoch."""
        return self.transforms[min(epoch, len(self.transforms) - 1)]

    def key(self, epoch: int, row: int) -> int:
        """The key of the random draws for an image in an epoch."""
        return random_key(self.seed, epoch, self.id_hashes[row])

    def is_mirrored(self, epoch: int, row: int) -> bool:
        """True if the alternating flip mirrors this image in this epoch."""
        return self.alternating_flip and (random_key(self.seed, self.id_hashes[row]) + epoch) % 2 == 1

    def __getitem__(self, key: Key) -> np.ndarray:
        return self.make_image(*key)

    def make_image(self, epoch: int, row: int, out: np.ndarray | None = None) -> np.ndarray:
        """The transformed image of a row in an epoch, (H, W, 3) uint8, in ``out`` if given."""
        picture = self.pixels[self.positions[row]]
        return self.transform_at(epoch)(picture, self.key(epoch, row), self.is_mirrored(epoch, row), out)

    def __getitems__(self, keys: list[Key]) -> Batch | FoldwiseError | MemoryError:
        """A batch for keys of one epoch; each image is written directly to its place in the batch.

        An expected error is returned, and Loader raises it: if a loader process raised it, torch would add the
        traceback of that process to the message.
        """
        size = self.transform_at(keys[0][0]).size
        try:
            images = np.empty((len(keys), *size, 3), np.uint8)
            for (epoch, row), out in zip(keys, images, strict=True):
                self.make_image(epoch, row, out)
        except (FoldwiseError, MemoryError) as fault:
            return fault
        return torch.from_numpy(images), torch.tensor([row for _, row in keys])


class EpochBatches(Sampler[list[Key]]):
    """Sampler of batches of (epoch, row) keys.

    With a seed, the rows are shuffled by (seed, epoch), and the last batch is dropped if it is short. Without a seed,
    all rows come in order. Set ``epoch`` and ``start`` (the index of the first batch) before each pass.

    limit: largest number of batches in a pass, for a dry run
    share: (rank, size) of this process among those that share the work. It gets its part of each shuffled batch, or
        every size-th of the batches in order, so that these batches are the same for any size
    """

    def __init__(
        self, num_rows: int, batch_size: int, seed: int | None = None, limit: int | None = None,
        share: tuple[int, int] = (0, 1),
    ) -> None:  # fmt: skip
        self.num_rows, self.batch_size = num_rows, max(1, min(batch_size, num_rows))  # there may be no rows
        self.seed, self.limit, self.share = seed, limit, share
        self.epoch = self.start = 0

    def __len__(self) -> int:
        return len(self._starts())

    @property
    def part(self) -> int:
        """Number of rows of a shuffled batch that this process gets."""
        rank, size = self.share
        return len(range(rank, self.batch_size, size))

    def _starts(self) -> range:
        """Offsets in ``order()`` at which the batches of this process start."""
        whole, rest = divmod(self.num_rows, self.batch_size)
        batches = whole + (rest > 0 and self.seed is None)
        starts = range(0, min(batches, self.limit or batches) * self.batch_size, self.batch_size)
        rank, size = self.share
        return starts[rank::size] if self.seed is None else starts

    def order(self) -> np.ndarray:
        """The rows in the order of the epoch, (num_rows,) int64."""
        rows = np.arange(self.num_rows)
        return rows if self.seed is None else np.random.default_rng([self.seed, self.epoch]).permutation(rows)

    def __iter__(self) -> Iterator[list[Key]]:
        order = self.order()
        part = slice(None) if self.seed is None else slice(self.share[0], None, self.share[1])
        for start in self._starts()[self.start :]:
            yield [(self.epoch, int(row)) for row in order[start : start + self.batch_size][part]]


class Groups(Sampler[list[Key]]):
    """Several batches of a sampler as one, for loader processes that make little of each row."""

    def __init__(self, batches: EpochBatches, number: int) -> None:
        self.batches, self.number = batches, number

    def __len__(self) -> int:
        return math.ceil(len(self.batches) / self.number)

    def __iter__(self) -> Iterator[list[Key]]:
        batches = iter(self.batches)
        while group := list(islice(batches, self.number)):
            yield [key for batch in group for key in batch]


class Rows(Protocol):
    """What Loader makes batches of: rows with an image_id."""

    ids: list[str]

    @property
    def row_bytes(self) -> int: ...

    def __getitems__(self, keys: list[Key]) -> Batch | FoldwiseError | MemoryError: ...


def whole_batch(batch: Any) -> Any:
    """Collate function that changes nothing: ``__getitems__`` has already made the batch."""
    return batch


class Batches(Protocol):
    """Source of batches for training, validation and prediction; its length is the number of batches in an epoch."""

    def __len__(self) -> int: ...

    def epoch(self, epoch: int = 0, start: int = 0) -> Iterator[Batch]:
        """Yields (images, rows) of one epoch from batch ``start``."""
        ...


class WithProgress:
    """Batches with a progress display for each epoch."""

    def __init__(self, batches: Batches, stage: str, doing: str) -> None:
        self.batches, self.stage, self.doing = batches, stage, doing

    def __len__(self) -> int:
        return len(self.batches)

    def epoch(self, epoch: int = 0, start: int = 0) -> Iterator[Batch]:
        """Yields (images, rows) of one epoch from batch ``start``."""
        return progress(self.batches.epoch(epoch, start), len(self) - start, self.stage, self.doing)


class Interruptible:
    """Batches that call ``check`` before each batch; it may raise an exception to end the epoch."""

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
    """Batches of a dataset, epoch by epoch; its loader processes, if any, stay alive between epochs.

    group: number of batches that are made, and yielded, as one
    """

    def __init__(self, dataset: Rows, batches: EpochBatches, workers: int, pin: bool, group: int = 1) -> None:
        cv2.setNumThreads(0)  # no threads inside OpenCV: there are many small images
        self.dataset, self.batches, self.group = dataset, batches, group
        self.workers = limit_workers(workers, group * batches.batch_size * dataset.row_bytes)
        self.sampler = batches if group == 1 else Groups(batches, group)
        self.loader: DataLoader | None = None  # None: this process makes the batches, in 0.93 of the time
        if self.workers or pin:
            rows: Any = dataset
            self.loader = DataLoader(
                rows, batch_sampler=self.sampler, collate_fn=whole_batch, num_workers=self.workers, pin_memory=pin,
                persistent_workers=self.workers > 0, worker_init_fn=start_worker,
                prefetch_factor=PREFETCH if self.workers else None, timeout=TIMEOUT if self.workers else 0,
            )  # fmt: skip

    def __len__(self) -> int:
        """Number of batches in an epoch."""
        return len(self.batches)

    def epoch(self, epoch: int = 0, start: int = 0) -> Iterator[Batch]:
        """Yields (images, rows) of one epoch from batch ``start``.

        Raises FoldwiseError if an image file has changed, or if a loader process dies or hangs.
        """
        self.batches.epoch, self.batches.start = epoch, start
        made = start
        try:
            for batch in map(self.dataset.__getitems__, self.sampler) if self.loader is None else self.loader:
                if isinstance(batch, Exception):
                    end_children()
                    raise batch
                images, rows = batch
                made += self.group
                yield images, rows.clone()  # callers keep the rows, and a tensor of a loader process keeps a file open
        except (RuntimeError, ConnectionError, EOFError) as error:
            self.batches.start = min(made, len(self.batches) - 1)
            _, first = next(iter(self.batches))[0]
            last = min(made + self.group * PREFETCH * max(1, self.workers), len(self.batches))
            what = f"batches {made + 1} to {last} of epoch {epoch + 1}, from image '{self.dataset.ids[first]}' on"
            fault = worker_error(error, what)
            if fault is None:
                raise
            end_children()
            raise fault from error
