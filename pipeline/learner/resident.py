"""Avoids waiting for copies to the device: images stay in its memory, or the next batch is copied in advance.

All of this runs on any device, so that the tests can compare it with the CPU's loader.

Legend: B batch, H height, W width; images (B, H, W, 3) uint8 on the device; rows (B,) int64, positions in the dataset.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache

import torch

from pipeline.learner.memory import Room
from pipeline.pixels.augment import CropAndTurn
from pipeline.pixels.dataset import Batch, Batches, EpochBatches, ImageDataset, Key, Loader

#: Number of batches whose random draws a loader process makes at once: to pass a message takes 0.4 ms, to draw for an
#: image 0.02 ms.
DRAWN_AT_ONCE = 16
#: Largest number of output pixels that are cropped at once.
PIXELS_AT_ONCE = 2**22


def crop_and_flip(
    pixels: torch.Tensor, starts: torch.Tensor, widths: torch.Tensor, draws: torch.Tensor, sides: torch.Tensor
) -> torch.Tensor:
    """Crops, resizes (bilinear) and flips a whole batch; returns images (B, H, W, 3) uint8.

    The images are equal to those of cv2.resize up to rounding. There are few operations, since the host needs about
    5 us to start one on a GPU, whatever its size.

    pixels: (P, 3) uint8, all images one after another
    starts, widths: (N,) int64, first pixel and row length of each image
    draws: (B, 8) int64, see Draws
    sides: (2, 1) int64 on the CPU, W and H
    """
    # The axes are across and down, (B, 2, 1); both have the length of the longer one, and are cut at the end.
    boxes, flips = draws[:, 1:5].float().view(-1, 2, 2, 1), draws[:, 5:7, None].bool()
    low, high = boxes.unbind(1)
    last, lengths = high - 1, sides.to(pixels.device, torch.float32, non_blocking=True)
    centres = torch.arange(0.5, int(sides.max()), device=pixels.device)
    centres = torch.where(flips, lengths - centres, centres)
    places = torch.clamp(low + (high - low) / lengths * centres - 0.5, low, last)  # in the image, (B, 2, L)
    first = places.long()
    near = torch.stack((first, torch.minimum(first + 1, last.long())))  # both neighbours, (2, B, 2, L)
    share, (width, height) = places - first, sides[:, 0].tolist()

    image = draws[:, :1]
    rows = near[:, :, 1, :height] * widths[image] + starts[image]  # (2, B, H), the first pixel of each row
    corners = pixels[rows[:, None, :, :, None] + near[:, :, 0, :width][None, :, :, None]].float()  # (2, 2, B, H, W, 3)
    upper, lower = torch.lerp(corners[:, 0], corners[:, 1], share[:, 0, None, :width, None])
    return torch.lerp(upper, lower, share[:, 1, :height, None, None]).round_().to(torch.uint8)


class Draws:
    """The random draws for the rows of a dataset whose images are only cropped and turned, for Loader.

    Each row has 8 numbers: its position in the pixels, the crop box (left, top, right, bottom), whether the crop is
    reversed across and down, and whether rows and columns are then swapped.
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
            # A Turn swaps before it flips: to flip first, a swapped image is flipped along the other axis.
            flips = (turn.flip_rows, turn.flip_columns) if turn.swap else (turn.flip_columns, turn.flip_rows)
            drawn.append((position, *box, *flips, turn.swap))
        return torch.tensor(drawn), torch.tensor([row for _, row in keys])


class ResidentLoader:
    """Makes training batches on the device, whose memory holds all decoded images.

    For each image, the random draws are those of the CPU's loader, and the result is the same up to rounding. Loader
    processes make the draws, if there are any.
    """

    def __init__(self, dataset: ImageDataset, batches: EpochBatches, workers: int, device: torch.device) -> None:
        assert self.can_apply(dataset)
        self.dataset, self.device = dataset, device
        pin = device.type == "cuda"
        self.draws = Loader(Draws(dataset), batches, min(workers, 2), pin, DRAWN_AT_ONCE if workers else 1)
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
        sides, most = torch.tensor(size[::-1]).view(2, 1), PIXELS_AT_ONCE // math.prod(size)
        # Several batches are cropped at once if they are small, a large one in parts, since the four neighbours of each
        # pixel take 80 bytes.
        whole = self.part * max(1, most // self.part)
        for group, of_rows in self.draws.epoch(epoch, start):
            swaps, on_here = bool(group[:, 7].any()), group.to(self.device, non_blocking=True)
            for drawn, rows in zip(on_here.split(whole), of_rows.split(whole), strict=True):
                made = [
                    crop_and_flip(self.pixels, self.starts, self.widths, draws, sides)
                    for draws in drawn.split(max(1, most))
                ]
                images = made[0] if len(made) == 1 else torch.cat(made)
                if swaps:  # then the images are square
                    images = torch.where(drawn[:, 7, None, None, None].bool(), images.transpose(1, 2), images)
                yield from zip(images.split(self.part), rows.split(self.part), strict=True)


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
            self.kept = [(images.clone() if is_passed(images) else images, rows) for images, rows in batches]
        return iter(self.kept[start:])


def is_passed(images: torch.Tensor) -> bool:
    """True if the images are in the shared memory through which a loader process passed them."""
    return images.device.type == "cpu" and images.is_shared()


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
