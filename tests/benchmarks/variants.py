"""What is measured: loaders, steps and inference, ours and others'. Each function builds the variants of a process.

Real pictures, page cache warm. A loader's work is an epoch over a few of them: decode or read, augment, collate,
normalise. Its process has one thread; a step's and an inference's has as many as the benchmark names.
"""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import albumentations as A
import cv2
import pandas as pd
import timm
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader

from pipeline.learner.arrangement import choose_arrangement
from pipeline.learner.device import keep_freed_memory
from pipeline.learner.inference import fuse_batchnorm
from pipeline.learner.inputs import Normalize
from pipeline.learner.optimizer import build_optimizer
from pipeline.pixels.augment import Augmenter, train_transforms
from pipeline.pixels.cache import Pixels, open_pixels, readable_rows
from pipeline.pixels.dataset import EpochBatches, ImageDataset, Loader
from pipeline.pixels.preprocessing import IMAGENET
from pipeline.records.command_line import Machine
from pipeline.records.paths import Paths
from pipeline.records.recipe import Recipe
from pipeline.records.tables import read_manifest
from tests.benchmarks import reference
from tests.benchmarks.arena import COMPETITION
from tests.benchmarks.turns import Work

BATCH_SIZES = {224: 16, 64: 64}  # by image side
CPU = torch.device("cpu")
PICTURES = 200  # in an epoch of a loader


def recipe_of(side: int) -> Recipe:
    """ResNet-18 with crops and flips."""
    return Recipe.model_validate(
        {
            "model": "resnet18", "image_size": side, "epochs": 10, "lr": 1e-3, "batch_size": BATCH_SIZES[side],
            "augment": {"random_resized_crop": {"scale": [0.35, 1.0]}}, "resize": "crop",
        }
    )  # fmt: skip


@dataclass(frozen=True)
class ArenaPaths(Paths):
    """The files of the arena's competition."""

    folder: Path = Path()

    @property
    def home(self) -> Path:
        return self.folder


def rows_of(home: Path) -> pd.DataFrame:
    """All readable rows of the arena's manifest."""
    return readable_rows(read_manifest(home / "manifest.csv"))


def some_train_rows(home: Path) -> pd.DataFrame:
    """A few train rows, evenly picked."""
    train = rows_of(home).query("split == 'train'")
    return train.iloc[:: max(1, len(train) // PICTURES)]


def one_thread() -> None:
    """No library of this process works beside itself."""
    torch.set_num_threads(1)
    cv2.setNumThreads(0)


def repeated(work: Work, times: int) -> Work:
    """The work several times over."""
    return lambda: sum(work() for _ in range(times))


# --- loaders ----------------------------------------------------------------------------------------------------


def our_loaders(home: Path, side: int) -> dict[str, Work]:
    """With albumentations, by the shortest path, as uint8 (what a GPU would get), and without the cache."""
    one_thread()
    keep_freed_memory()
    recipe, rows, train = recipe_of(side), rows_of(home), some_train_rows(home)
    paths = ArenaPaths(COMPETITION, folder=home)
    cached = open_pixels(paths, rows, recipe.cache_side, "bench")
    direct = Pixels(home, rows, recipe.cache_side, None)
    short = train_transforms(recipe, ["hflip"])
    whole = [Augmenter(short[0].transforms, (side, side))]
    normalize = Normalize(IMAGENET, channels_last=True)

    def epochs(pixels: Pixels, transforms: list[Augmenter], finish: Callable[[torch.Tensor], torch.Tensor]) -> Work:
        order = EpochBatches(len(train), recipe.batch_size, seed=0)
        loader, numbers = Loader(ImageDataset(pixels, train, transforms), order, 0, False), itertools.count()
        return lambda: sum(len(finish(images)) for images, _ in loader.epoch(next(numbers)))

    return {
        "cached, albumentations": epochs(cached, whole, normalize),
        "cached, shortest path": epochs(cached, short, normalize),
        "cached, uint8": epochs(cached, short, lambda images: images),
        "uncached": epochs(direct, short, normalize),
    }


def their_loaders(home: Path, side: int) -> dict[str, Work]:
    """The seed-style reference, the albumentations loader of many notebooks, timm's, and fastai's where it is here."""
    one_thread()
    files = [home / path for path in some_train_rows(home)["path"]]
    labels, batch_size = [0] * len(files), BATCH_SIZES[side]
    pictures = reference.PictureFolder(files, labels, side)
    plain = PlainAlbumentations(files, labels, side)
    variants = {
        "seed": epoch_of(DataLoader(pictures, batch_size, shuffle=True)),
        "plain albumentations": epoch_of(DataLoader(plain, batch_size, shuffle=True)),
        "timm": epoch_of(timm_loader(TimmPictures(files, labels, side), side)),
    }
    if importlib.util.find_spec("fastai") is not None:
        from fastai.vision.all import Flip, ImageDataLoaders, RandomResizedCrop  # type: ignore[import-not-found]

        loaders = ImageDataLoaders.from_path_func(
            home, files, lambda path: path.name[:3], valid_pct=0, bs=batch_size, num_workers=0,
            item_tfms=RandomResizedCrop(side, min_scale=0.35), batch_tfms=Flip(),
        )  # fmt: skip
        variants["fastai"] = epoch_of(loaders.train)
    return variants


def epoch_of(loader: Iterable) -> Work:
    """An epoch of a plain loader."""
    return lambda: sum(len(images) for images, _ in loader)


class PlainAlbumentations(reference.PictureFolder):
    """cv2.imread and an albumentations Compose that ends in Normalize and ToTensorV2."""

    def __init__(self, files: list[Path], labels: list[int], side: int) -> None:
        super().__init__(files, labels, side)
        crop = A.RandomResizedCrop((side, side), scale=(0.35, 1.0))
        self.compose = A.Compose(
            [crop, A.HorizontalFlip(p=0.5), A.Normalize(IMAGENET.mean, IMAGENET.std), A.ToTensorV2()]
        )

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        pixels = cv2.imread(str(self.files[row]))
        assert pixels is not None
        return self.compose(image=cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))["image"], self.labels[row]


class TimmPictures(reference.PictureFolder):
    """Pictures for timm's loader, which sets the transform itself."""

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.open(self.files[row]).convert("RGB")), self.labels[row]


def timm_loader(pictures: TimmPictures, side: int) -> Iterable:
    """timm's training loader without processes."""
    from timm.data import create_loader

    return create_loader(
        pictures, (3, side, side), BATCH_SIZES[side], is_training=True, use_prefetcher=False, num_workers=0, device=CPU,
        persistent_workers=False, scale=(0.35, 1.0),
    )  # fmt: skip


# --- the model --------------------------------------------------------------------------------------------------


def our_step(side: int, threads: int) -> dict[str, Work]:
    """A step as train.py takes it, from uint8 images on: layout, normalisation, loss, fused optimizer."""
    torch.set_num_threads(threads)
    keep_freed_memory()
    torch.manual_seed(0)
    recipe = recipe_of(side)
    arrangement = choose_arrangement(recipe, CPU, Machine(threads=threads), 1)
    model = arrangement.place(timm.create_model("resnet18", num_classes=2), CPU)
    normalize = Normalize(IMAGENET, arrangement.channels_last)
    optimizer = build_optimizer(model, recipe, CPU)
    images = torch.randint(0, 256, (recipe.batch_size, side, side, 3), dtype=torch.uint8)
    targets = torch.eye(2)[torch.randint(0, 2, (recipe.batch_size,))]

    def step() -> float:
        nn.functional.cross_entropy(model(normalize(images)), targets).backward()
        optimizer.step()
        optimizer.zero_grad()
        return recipe.batch_size

    return {"ours": repeated(step, 3)}


def their_step(side: int, threads: int) -> dict[str, Work]:
    """A step of the notebook, from normalised float images on."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model, optimizer = reference.make_step(timm.create_model("resnet18", num_classes=2))
    images, labels = torch.randn(BATCH_SIZES[side], 3, side, side), torch.randint(0, 2, (BATCH_SIZES[side],))

    def step() -> float:
        reference.train_step(model, optimizer, images, labels)
        return len(images)

    return {"seed": repeated(step, 3)}


def our_inference(side: int, threads: int) -> dict[str, Work]:
    """inference_mode, layout by rule, BatchNorm folded."""
    torch.set_num_threads(threads)
    keep_freed_memory()
    arrangement = choose_arrangement(recipe_of(side), CPU, Machine(threads=threads), 1)
    model = arrangement.place(fuse_batchnorm(timm.create_model("resnet18", num_classes=2)), CPU)
    layout = torch.channels_last if arrangement.channels_last else torch.contiguous_format
    images = torch.randn(BATCH_SIZES[side], 3, side, side).contiguous(memory_format=layout)

    @torch.inference_mode()
    def forward() -> float:
        return len(model(images))

    return {"ours": repeated(forward, 4)}


def their_inference(side: int, threads: int) -> dict[str, Work]:
    """eval and no_grad."""
    torch.set_num_threads(threads)
    model = timm.create_model("resnet18", num_classes=2).eval()
    images = torch.randn(BATCH_SIZES[side], 3, side, side)

    @torch.no_grad()
    def forward() -> float:
        return len(model(images))

    return {"seed": repeated(forward, 4)}
