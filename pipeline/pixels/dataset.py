"""From manifest rows to batches of uint8 images, in an order and with draws that are functions of (seed, epoch, image).

Legend: B batch, S image side; images (B, S, S, 3) uint8; rows (B,) int64, positions in the dataset.
"""

from __future__ import annotations

import signal
import zlib
from collections.abc import Iterator

import albumentations as A
import cv2
import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from pipeline.pixels.augment import seed_transform
from pipeline.pixels.cache import Pixels

Key = tuple[int, int]  # (epoch, row)


class ImageDataset(Dataset):
    """Transformed pictures of ``rows`` (image_id, and ``position`` among the pixels) by (epoch, row).

    The draw for a picture depends on (seed, epoch, its id) alone.
    """

    def __init__(self, pixels: Pixels, rows: pd.DataFrame, transform: A.Compose, seed: int = 0) -> None:
        self.pixels, self.transform, self.seed = pixels, transform, seed
        self.positions = rows["position"].tolist()
        self.id_hashes = [zlib.crc32(image_id.encode()) for image_id in rows["image_id"]]

    def __len__(self) -> int:
        return len(self.id_hashes)

    def __getitem__(self, key: Key) -> tuple[np.ndarray, int]:
        epoch, row = key
        seed_transform(self.transform, self.seed, epoch, self.id_hashes[row])
        return self.transform(image=self.pixels[self.positions[row]])["image"], row


class EpochBatches(Sampler[list[Key]]):
    """Batches of (epoch, row) keys: shuffled by (seed, epoch), without the last short batch; or all rows in order.

    Set ``epoch`` and ``start`` (the first batch wanted) before each pass; ``limit`` ends it early, for a dry run.
    """

    def __init__(self, num_rows: int, batch_size: int, seed: int | None, limit: int | None) -> None:
        self.num_rows, self.batch_size, self.seed, self.limit = (
            num_rows,
            min(batch_size, num_rows),
            seed,
            limit,
        )
        self.epoch = self.start = 0

    def __len__(self) -> int:
        whole, rest = divmod(self.num_rows, self.batch_size)
        batches = whole + (rest > 0 and self.seed is None)
        return min(batches, self.limit or batches)

    def __iter__(self) -> Iterator[list[Key]]:
        order = np.arange(self.num_rows)
        if self.seed is not None:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(order)
        for batch in range(self.start, len(self)):
            yield [(self.epoch, int(row)) for row in order[batch * self.batch_size : (batch + 1) * self.batch_size]]


def collate(samples: list[tuple[np.ndarray, int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Stacks samples to images (B, S, S, 3) uint8 and rows (B,)."""
    images, rows = zip(*samples, strict=True)
    return torch.from_numpy(np.stack(images)), torch.tensor(rows)


def start_worker(_: int) -> None:
    """A loader process leaves Ctrl-C to the main one, and its cores to the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(0)


class Loader:
    """Batches of a dataset, epoch by epoch; the processes, if any, live as long as the loader."""

    def __init__(
        self, dataset: ImageDataset, batch_size: int, workers: int, pin: bool,
        shuffle_seed: int | None = None, limit: int | None = None,
    ) -> None:  # fmt: skip
        cv2.setNumThreads(0)  # images are many and small: one thread each
        self.batches = EpochBatches(len(dataset), batch_size, shuffle_seed, limit)
        self.loader = DataLoader(
            dataset, batch_sampler=self.batches, collate_fn=collate, num_workers=workers, pin_memory=pin,
            persistent_workers=workers > 0, worker_init_fn=start_worker,
        )  # fmt: skip

    def __len__(self) -> int:
        """Batches in a whole epoch."""
        return len(self.batches)

    def epoch(self, epoch: int = 0, start: int = 0) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yields (images, rows) of one epoch from batch ``start``."""
        self.batches.epoch, self.batches.start = epoch, start
        return iter(self.loader)
