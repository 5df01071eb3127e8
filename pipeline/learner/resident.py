"""Avoids waiting for copies to the device: images stay in its memory, or the next batch is copied in advance.

All of this runs on any device, so that the tests can compare it with the CPU's loader.

Legend: B batch, H height, W width; images (B, H, W, 3) uint8 on the device; rows (B,) int64, positions in the dataset.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from pipeline.pixels.augment import CropAndTurn, Turn
from pipeline.pixels.dataset import Batch, Batches, EpochBatches, ImageDataset, Loader
from pipeline.records.recipe import Recipe, Size

#: Fraction of a GPU's free memory that the kept images may take.
MAX_GPU_MEMORY_FRACTION = 0.25
#: Largest size, in bytes, of images that are kept on other devices.
MAX_KEPT_BYTES = 2**28


def fits_in_memory(num_bytes: int, device: torch.device) -> bool:
    """True if ``num_bytes`` of images may stay on the device for the whole run."""
    if device.type == "cuda":
        return num_bytes <= MAX_GPU_MEMORY_FRACTION * torch.cuda.mem_get_info(device)[0]
    return num_bytes <= MAX_KEPT_BYTES


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


class ResidentLoader:
    """Makes training batches on the device, whose memory holds all decoded images.

    For each image, the random draws are those of the CPU's loader, and the result is the same up to rounding.
    """

    def __init__(self, dataset: ImageDataset, batches: EpochBatches, device: torch.device) -> None:
        assert self.can_apply(dataset, device)
        self.dataset, self.batches, self.device = dataset, batches, device
        store = dataset.pixels
        flat = torch.from_file(str(store.cached), size=int(store.starts[-1]), dtype=torch.uint8)
        self.pixels = flat.to(device).view(-1, 3)
        self.starts = torch.from_numpy(store.starts[:-1] // 3)
        self.widths = torch.from_numpy(store.shapes[:, 1].copy())

    @staticmethod
    def can_apply(dataset: ImageDataset, device: torch.device) -> bool:
        """True if the images are only cropped and turned, are cached, and fit into the device's memory."""
        plain = all(isinstance(transform, CropAndTurn) for transform in dataset.transforms)
        return plain and dataset.pixels.cached is not None and fits_in_memory(int(dataset.pixels.starts[-1]), device)

    def __len__(self) -> int:
        return len(self.batches)

    def epoch(self, epoch: int = 0, start: int = 0) -> Iterator[Batch]:
        """Yields (images, rows) of one epoch from batch ``start``."""
        transform = self.dataset.transform_at(epoch)
        assert isinstance(transform, CropAndTurn)
        self.batches.epoch, self.batches.start = epoch, start
        for keys in self.batches:
            boxes, turns = zip(*(self.draw(transform, epoch, row) for _, row in keys), strict=True)
            rows = torch.tensor([row for _, row in keys])
            places = torch.tensor([self.dataset.positions[row] for _, row in keys])
            yield (
                crop_and_turn(
                    self.pixels,
                    self.starts[places].to(self.device, non_blocking=True),
                    self.widths[places].to(self.device, non_blocking=True),
                    torch.tensor(boxes, dtype=torch.float32).to(self.device, non_blocking=True),
                    torch.tensor(turns).to(self.device, non_blocking=True),
                    transform.size,
                ),
                rows,
            )

    def draw(self, transform: CropAndTurn, epoch: int, row: int) -> tuple[tuple[int, int, int, int], Turn]:
        """Crop box and turn of an image in an epoch."""
        height, width = self.dataset.pixels.shapes[self.dataset.positions[row]]
        mirrored = self.dataset.is_mirrored(epoch, row)
        return transform.draw((int(height), int(width)), self.dataset.key(epoch, row), mirrored)


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


def train_batches(dataset: ImageDataset, order: EpochBatches, workers: int, device: torch.device) -> Batches:
    """Training batches: made on the device if possible, else by the CPU's loader."""
    if device.type != "cpu" and ResidentLoader.can_apply(dataset, device):
        return ResidentLoader(dataset, order, device)
    return Loader(dataset, order, workers, device.type == "cuda")


def val_batches(
    dataset: ImageDataset, recipe: Recipe, workers: int, device: torch.device, share: tuple[int, int] = (0, 1)
) -> Batches:
    """Validation batches in order, or this rank's share of them; kept after the first epoch if they fit into memory."""
    order = EpochBatches(len(dataset), recipe.batch_size, share=share)
    loader = Loader(dataset, order, workers, device.type == "cuda")
    return CachedLoader(loader, device) if fits_in_memory(len(dataset) * math.prod(recipe.size) * 3, device) else loader


def on_device(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """The batches with their images on the device; with CUDA, each batch is copied while the one before it is used."""
    if device.type != "cuda":
        for images, rows in batches:
            yield images.to(device), rows
        return
    copying, waiting = torch.cuda.Stream(device), None
    for images, rows in batches:
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
