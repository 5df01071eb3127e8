"""What is made on the device is what the CPU's loader makes. It runs on the CPU here: the code knows no device."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline.learner.memory import Room
from pipeline.learner.resident import CachedLoader, ResidentLoader, copy_stream, on_device, train_batches, val_batches
from pipeline.pixels.augment import eval_transforms, train_transforms
from pipeline.pixels.cache import open_pixels, readable_rows
from pipeline.pixels.dataset import EpochBatches, ImageDataset, Loader
from pipeline.records.paths import Paths
from pipeline.records.recipe import Recipe
from pipeline.records.tables import read_manifest
from tests.conftest import Stage, write_image
from tests.learner.networks import CountedOperations

CPU = torch.device("cpu")


def recipe_of(**changes: object) -> Recipe:
    """Crops of pictures that are larger than wanted."""
    crop = {"random_resized_crop": {"scale": [0.2, 1.0]}}
    return Recipe.model_validate(
        {"model": "x", "image_size": 24, "epochs": 4, "lr": 1, "augment": crop, "batch_size": 16, **changes}
    )


@pytest.fixture
def rows(shapes: Paths, stage: Stage) -> pd.DataFrame:
    """Train rows of pictures of many sizes."""
    rng = np.random.default_rng(0)
    for path in sorted((shapes.raw / "train").glob("*.png")):
        height, width = (int(side) for side in rng.integers(15, 70, 2))
        noise = rng.integers(0, 255, (height // 5 + 2, width // 5 + 2, 3), dtype=np.uint8)
        write_image(path, np.repeat(np.repeat(noise, 5, axis=0), 5, axis=1)[:height, :width])
    stage("manifest")
    return readable_rows(read_manifest(shapes.manifest))


@pytest.mark.parametrize(
    ("symmetries", "alternating", "image_size", "workers"),
    [
        ([], False, 24, 0),
        (["hflip"], False, 24, 1),
        (["hflip"], True, [16, 40], 0),
        (["hflip", "vflip", "rot90", "transpose"], False, 24, 2),
    ],
)
def test_batches_made_on_the_device_are_those_of_the_cpu(
    shapes: Paths, rows: pd.DataFrame, symmetries: list[str], alternating: bool, image_size: object, workers: int
) -> None:
    recipe = recipe_of(start_scale=0.67, alternating_flip=alternating, image_size=image_size)
    pixels = open_pixels(shapes, rows, recipe.cache_side, "train")
    train = rows[rows["split"] == "train"]
    dataset = ImageDataset(pixels, train, train_transforms(recipe, symmetries), 3, alternating)
    host = Loader(dataset, EpochBatches(60, 16, seed=3), 0, False)
    resident = ResidentLoader(dataset, EpochBatches(60, 16, seed=3), workers, CPU)
    assert len(resident) == len(host) == 3
    for epoch, start in ((0, 0), (3, 1)):
        batches = zip(resident.epoch(epoch, start), host.epoch(epoch, start), strict=True)
        for (made, made_rows), (expected, expected_rows) in batches:
            assert torch.equal(made_rows, expected_rows) and made.shape == expected.shape
            assert (made.int() - expected.int()).abs().max() <= 1  # OpenCV computes with 11 bits of fraction


def test_validation_batches_are_made_once_and_kept(shapes: Paths, rows: pd.DataFrame) -> None:
    recipe = recipe_of()
    pixels = open_pixels(shapes, rows, recipe.cache_side, "train")
    dataset = ImageDataset(pixels, rows, eval_transforms(recipe))
    room = Room(len(rows) * 24 * 24 * 3)
    kept = val_batches(dataset, EpochBatches(len(rows), 16), 0, CPU, room)
    assert isinstance(val_batches(dataset, EpochBatches(len(rows), 16), 0, CPU, room), Loader)  # nothing is left
    assert isinstance(kept, CachedLoader) and len(kept) == 5
    first, second = list(kept.epoch(0)), list(kept.epoch(1))
    assert all(one is two for one, two in zip(first, second, strict=True))
    assert torch.cat([batch_rows for _, batch_rows in first]).tolist() == list(range(len(rows)))


def test_only_what_the_device_can_make_is_made_there(shapes: Paths, rows: pd.DataFrame) -> None:
    recipe = recipe_of(augment={"random_resized_crop": {}, "erase": {}})
    pixels = open_pixels(shapes, rows, recipe.cache_side, "train")
    dataset = ImageDataset(pixels, rows, train_transforms(recipe, []))
    assert not ResidentLoader.can_apply(dataset)
    assert isinstance(train_batches(dataset, EpochBatches(60, 16, seed=0), 0, CPU, Room(10**9)), Loader)


def test_what_is_on_the_device_is_not_copied_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also on CUDA, where other batches are copied by a stream of their own, one for each device."""
    here = torch.device("meta")
    batches = [(torch.empty(2, 4, 4, 3, dtype=torch.uint8, device=here), torch.tensor([0]))]
    [(images, _)] = on_device(iter(batches), here)
    assert images is batches[0][0]


def test_one_copy_stream_for_each_device(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[torch.device] = []

    def stream(device: torch.device) -> object:
        made.append(device)
        return object()

    monkeypatch.setattr(torch.cuda, "Stream", stream)
    streams = [copy_stream(torch.device("cuda", number)) for number in (5, 6, 5, 5)]
    assert streams[0] is streams[2] is streams[3] is not streams[1]
    assert made == [torch.device("cuda", 5), torch.device("cuda", 6)]
    copy_stream.cache_clear()


def test_a_batch_is_cropped_in_few_operations(shapes: Paths, rows: pd.DataFrame) -> None:
    """The host needs 5 us to start each on a GPU; it was 65 operations once."""
    recipe = recipe_of()
    dataset = ImageDataset(open_pixels(shapes, rows, recipe.cache_side, "train"), rows, train_transforms(recipe, []))
    batches = ResidentLoader(dataset, EpochBatches(len(rows), 16, seed=0), 0, CPU).epoch()
    with CountedOperations() as counted:
        next(batches)
    assert 0 < counted.number < 45


def test_copies_that_run_ahead_lose_no_batch(shapes: Paths, rows: pd.DataFrame) -> None:
    batches = [(torch.full((2, 4, 4, 3), number, dtype=torch.uint8), torch.tensor([number])) for number in range(5)]
    assert [int(batch_rows) for _, batch_rows in on_device(iter(batches), CPU)] == list(range(5))
