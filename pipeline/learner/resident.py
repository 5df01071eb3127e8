"""Avoids waiting for copies to the device: images stay in its memory, or the next batch is copied in advance.

All of this runs on any device, so that the tests can compare it with the CPU's loader.

Legend: B batch, H height, W width; images (B, H, W, 3) uint8 on the device; rows (B,) int64, positions in the dataset.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import torch

from pipeline.learner.memory import Room
from pipeline.pixels.augment import CropAndTurn
from pipeline.pixels.dataset import Batch, Batches, EpochBatches, ImageDataset, Key, Loader
from pipeline.records.recipe import Size

#: Number of batches whose random draws a loader process makes at once: to pass a message takes 0.4 ms, to draw for an
#: image 0.02 ms.
DRAWN_AT_ONCE = 16


def crop_and_turn(
    pixels: torch.Tensor,
    starts: torch.Tensor,
    widths: torch.Tensor,
    boxes: torch.Tensor,
    turns: torch.Tensor,
    size: Size,
) -> torch.Tensor:
    """Crops, resizes (bilinear) and turns a whole batch; returns images (B, H, W, 3) uint8.

    The images are equal to those of cv2.resize up to rounding.

    pixels: (P, 3) uint8, all images one after another
    starts, widths: (B,) int64, first pixel and row length of each image
    boxes: (B, 4) float, left, top, right, bottom of each crop
    turns: (B, 3) bool, the fields of Turn
    size: (H, W), equal if a turn swaps rows and columns
    """
    left, top, right, bottom = boxes.unsqueeze(2).unbind(1)  # (B, 1) each
    swap, flip_rows, flip_columns = turns.unsqueeze(2).unbind(1)

    def along(low: torch.Tensor, high: torch.Tensor, length: int) -> torch.Tensor:
        """Coordinate in the image of each output pixel along one axis: (B, length)."""
        centres = torch.arange(length, device=pixels.device) + 0.5
        return torch.minimum(torch.maximum(low + (high - low) / length * centres - 0.5, low), high - 1)

    down, across = along(top, bottom, size[0]), along(left, right, size[1])
    if size[0] == size[1]:
        # Going down the output means going down the image or, if rows and columns are swapped, across it.
        down, across = torch.where(swap, across, down), torch.where(swap, down, across)
    down = torch.where(flip_rows, down.flip(1), down).unsqueeze(2)  # (B, H, 1)
    across = torch.where(flip_columns, across.flip(1), across).unsqueeze(1)  # (B, 1, W)
    swap = swap.unsqueeze(2)
    y, x = torch.where(swap, across, down), torch.where(swap, down, across)  # (B, H, W)

    y0, x0 = y.long(), x.long()
    last_row, last_column = (bottom.long() - 1).unsqueeze(2), (right.long() - 1).unsqueeze(2)
    y1, x1 = torch.minimum(y0 + 1, last_row), torch.minimum(x0 + 1, last_column)
    share_y, share_x = (y - y0).unsqueeze(3), (x - x0).unsqueeze(3)
    first, width = starts.view(-1, 1, 1), widths.view(-1, 1, 1)

    def at(rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        return pixels[first + rows * width + columns].float()

    upper = torch.lerp(at(y0, x0), at(y0, x1), share_x)
    lower = torch.lerp(at(y1, x0), at(y1, x1), share_x)
    return torch.lerp(upper, lower, share_y).round_().to(torch.uint8)


class Draws:
    """The random draws for the rows of a dataset whose images are only cropped and turned, for Loader.

    Each row has 8 numbers: its position in the pixels, the crop box (left, top, right, bottom), and the Turn.
    """

    def __init__(self, dataset: ImageDataset) -> None:
        self.dataset, self.ids = dataset, dataset.ids
        self.shapes: list[list[int]] = dataset.pixels.shapes.tolist()

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return 8 * 8

    def __getitems__(self, keys: list[Key]) -> Batch:
        """The draws (B, 8) int64 and the rows (B,) for keys of one epoch."""
        dataset, epoch = self.dataset, keys[0][0]
        transform = dataset.transform_at(epoch)
        assert isinstance(transform, CropAndTurn)
        drawn = []
        for _, row in keys:
            position = dataset.positions[row]
            height, width = self.shapes[position]
            mirrored = dataset.is_mirrored(epoch, row)
            box, turn = transform.draw((height, width), dataset.key(epoch, row), mirrored)
            drawn.append((position, *box, *turn))
        return torch.tensor(drawn), torch.tensor([row for _, row in keys])


class ResidentLoader:
    """Makes training batches on the device, whose memory holds all decoded images.

    For each image, the random draws are those of the CPU's loader, and the result is the same up to rounding. Loader
    processes make the draws, if there are any.
    """

    def __init__(self, dataset: ImageDataset, batches: EpochBatches, workers: int, device: torch.device) -> None:
        assert self.can_apply(dataset)
        self.dataset, self.device = dataset, device
        self.draws = Loader(Draws(dataset), batches, min(workers, 2), False, DRAWN_AT_ONCE if workers else 1)
        self.part = len(
            range(*slice(batches.share[0], batches.batch_size, batches.share[1]).indices(batches.batch_size))
        )
        store = dataset.pixels
        flat = torch.from_file(str(store.cached), size=int(store.starts[-1]), dtype=torch.uint8)
        self.pixels = flat.to(device).view(-1, 3)
        self.starts = torch.from_numpy(store.starts[:-1] // 3).to(device)
        self.widths = torch.from_numpy(store.shapes[:, 1].copy()).to(device)

    @staticmethod
    def can_apply(dataset: ImageDataset) -> bool:
        """True if the images are only cropped and turned, and are cached."""
        plain = all(isinstance(transform, CropAndTurn) for transform in dataset.transforms)
        return plain and dataset.pixels.cached is not None

    def __len__(self) -> int:
        return len(self.draws)

    def epoch(self, epoch: int = 0, start: int = 0) -> Iterator[Batch]:
        """Yields (images, rows) of one epoch from batch ``start``."""
        size = self.dataset.transform_at(epoch).size
        for drawn, of_rows in self.draws.epoch(epoch, start):
            on_here = drawn.to(self.device, non_blocking=True)
            for draws, rows in zip(on_here.split(self.part), of_rows.split(self.part), strict=True):
                places, boxes, turns = draws[:, 0], draws[:, 1:5].float(), draws[:, 5:].bool()
                yield crop_and_turn(self.pixels, self.starts[places], self.widths[places], boxes, turns, size), rows


class CachedLoader:
    """Batches without randomness, such as those of validation: they are made once and then kept on the device."""

    def __init__(self, loader: Batches, device: torch.device) -> None:
        self.loader, self.device = loader, device
        self.kept: list[Batch] = []

    def __len__(self) -> int:
        return len(self.loader)

    def epoch(self, epoch: int = 0, start: int = 0) -> Iterator[Batch]:
        """Yields (images, rows) of one epoch from batch ``start``."""
        if not self.kept:
            batches = on_device(self.loader.epoch(), self.device)
            # Loader processes put their batches into shared memory, which may be small: keep a copy elsewhere.
            self.kept = [(images.clone() if images.is_shared() else images, rows) for images, rows in batches]
        return iter(self.kept[start:])


def train_batches(
    dataset: ImageDataset, order: EpochBatches, workers: int, device: torch.device, room: Room
) -> Batches:
    """Training batches: made on the device if possible and if its room takes all images, else by the CPU's loader."""
    if device.type != "cpu" and ResidentLoader.can_apply(dataset) and room.takes(int(dataset.pixels.starts[-1])):
        return ResidentLoader(dataset, order, workers, device)
    return Loader(dataset, order, workers, device.type == "cuda")


def val_batches(dataset: ImageDataset, order: EpochBatches, workers: int, device: torch.device, room: Room) -> Batches:
    """Validation batches in order; they are kept on the device after the first epoch if its room takes them."""
    loader = Loader(dataset, order, workers, device.type == "cuda")
    return CachedLoader(loader, device) if room.takes(len(dataset) * dataset.row_bytes) else loader


def on_device(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """The batches with their images on the device; with CUDA, each batch is copied while the one before it is used.

    Images that are on the device already are yielded as they are.
    """
    waiting = None
    for images, rows in batches:
        if device.type != "cuda" or images.device == device:
            yield images.to(device), rows
            continue
        copying = copy_stream(device)
        with torch.cuda.stream(copying):
            coming = images.to(device, non_blocking=True)
        if waiting is not None:
            yield waiting
        working = torch.cuda.current_stream(device)
        working.wait_stream(copying)
        coming.record_stream(working)
        waiting = coming, rows
    if waiting is not None:
        yield waiting


@cache
def copy_stream(device: torch.device) -> torch.cuda.Stream:
    """The one stream that copies batches to a GPU: the memory of a stream is not used by another one."""
    return torch.cuda.Stream(device)
