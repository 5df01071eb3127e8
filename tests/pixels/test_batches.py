"""What the model is fed: the cache changes no bit, draws depend on (seed, epoch, image) alone."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torchvision.transforms import v2

from pipeline.pixels.augment import Augmenter, CropAndTurn, draw_key, eval_transforms, train_transform, train_transforms
from pipeline.pixels.cache import Pixels, open_pixels, readable_rows
from pipeline.pixels.dataset import EpochBatches, ImageDataset, Loader
from pipeline.pixels.preprocessing import IMAGENET
from pipeline.records.paths import Paths
from pipeline.records.recipe import Recipe, load_recipe
from pipeline.records.tables import read_manifest
from pipeline.system.errors import FoldwiseError
from tests.conftest import Stage, write_image

RECIPE = load_recipe("tiny", ["augment.random_resized_crop.scale=[0.3,1.0]", "augment.color_jitter.p=1"])


@pytest.fixture
def rows(shapes: Paths, stage: Stage) -> pd.DataFrame:
    """Readable rows of pictures of different sizes."""
    rng = np.random.default_rng(0)
    for number in range(1, 12):
        size = (int(rng.integers(9, 70)), int(rng.integers(9, 70)), 3)
        write_image(shapes.raw / "test" / f"{number}.png", rng.integers(0, 255, size, dtype=np.uint8))
    stage("manifest")
    return readable_rows(read_manifest(shapes.manifest))


def test_with_the_cache_or_without_it_the_pixels_are_the_same(
    shapes: Paths, rows: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = open_pixels(shapes, rows, 24, "train")
    monkeypatch.setattr("pipeline.pixels.cache.DISK_SHARE", 0)
    monkeypatch.setattr(Paths, "cache", shapes.home / "elsewhere")
    direct = open_pixels(shapes, rows, 24, "train")
    assert cached.cached is not None and direct.cached is None
    for row in range(len(rows)):
        np.testing.assert_array_equal(cached[row], direct[row])
    assert {min(cached[row].shape[:2]) for row in range(len(rows))} <= set(range(9, 25))


def test_a_cache_is_built_once_and_again_for_other_images(shapes: Paths, rows: pd.DataFrame) -> None:
    first = open_pixels(shapes, rows, 24, "train").cached
    assert open_pixels(shapes, rows, 24, "train").cached == first
    assert open_pixels(shapes, rows, 16, "train").cached != first
    assert open_pixels(shapes, rows.iloc[:-1], 24, "train").cached != first


def test_a_cache_may_lie_on_another_disk(
    shapes: Paths, rows: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOLDWISE_CACHE", str(tmp_path / "fast"))
    cached = open_pixels(shapes, rows, 24, "train").cached
    assert cached is not None and cached.parent == tmp_path / "fast" / "shapes" and cached.exists()


def test_of_two_that_want_a_cache_one_builds_it_and_the_other_waits(
    shapes: Paths, rows: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    decoded: list[int] = []
    both_want_it = threading.Barrier(2)
    decode = Pixels.decode

    def counted(pixels: Pixels, row: int) -> np.ndarray:
        if not decoded:
            both_want_it.wait(10)
            time.sleep(0.2)  # the other one comes to the lock meanwhile
        decoded.append(row)
        return decode(pixels, row)

    def second() -> Path | None:
        both_want_it.wait(10)
        return open_pixels(shapes, rows, 24, "train").cached

    monkeypatch.setattr(Pixels, "decode", counted)
    monkeypatch.setattr("pipeline.system.threads.cores", lambda: 1)
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(second)
        first = open_pixels(shapes, rows, 24, "train").cached
        assert other.result() == first
    assert sorted(decoded) == list(range(len(rows)))
    assert "waiting for another process" in capsys.readouterr().out


def test_a_picture_that_changed_after_the_manifest_is_named(shapes: Paths, rows: pd.DataFrame) -> None:
    write_image(shapes.raw / "test" / "3.png", np.zeros((5, 90, 3), np.uint8))
    with pytest.raises(FoldwiseError, match=r"test/3\.png has changed"):
        open_pixels(shapes, rows, 24, "train")


def epoch_of(loader: Loader, epoch: int, start: int = 0) -> dict[int, bytes]:
    """Bytes of each augmented image by row."""
    seen: dict[int, bytes] = {}
    for images, numbers in loader.epoch(epoch, start):
        assert images.shape[1:] == (16, 16, 3) and images.dtype.is_floating_point is False
        seen |= {int(n): image.numpy().tobytes() for n, image in zip(numbers, images, strict=True)}
    return seen


def test_draws_differ_by_epoch_and_image_but_not_by_workers_or_start(shapes: Paths, rows: pd.DataFrame) -> None:
    pixels = open_pixels(shapes, rows, RECIPE.cache_side, "train")
    train = rows[rows["split"] == "train"].assign(position=0)  # one picture under sixty ids: only draws differ
    dataset = ImageDataset(pixels, train, train_transforms(RECIPE, ["hflip"]), seed=3)
    alone, helped = (Loader(dataset, EpochBatches(60, 8, seed=3), workers, False) for workers in (0, 2))
    epochs = [epoch_of(alone, epoch) for epoch in (0, 1)]
    assert [epoch_of(helped, epoch) for epoch in (0, 1)] == epochs
    assert len(epochs[0]) == 56  # the short batch is left out
    assert len(set(epochs[0].values()) | set(epochs[1].values())) == 112
    assert epoch_of(alone, 1, start=5) == dict(list(epochs[1].items())[40:])


def test_orders_are_permutations_that_depend_on_seed_and_epoch() -> None:
    def order(seed: int | None, epoch: int) -> list[int]:
        batches = EpochBatches(100, 7, seed, None)
        batches.epoch = epoch
        return [row for batch in batches for _, row in batch]

    assert len(order(0, 0)) == 98 == len(set(order(0, 0)))
    assert order(0, 0) != order(0, 1) != order(1, 1)
    assert order(0, 1) == order(0, 1)
    assert order(None, 5) == list(range(100))


def test_two_flips_and_a_transpose_draw_apart() -> None:
    """albumentations' own per-sample seeding gives 2 of the 8 combinations."""
    corner = np.zeros((4, 4, 3), np.uint8)
    corner[0, 1] = 255
    recipe = Recipe(model="x", image_size=4, epochs=1, lr=1)
    transform = train_transform(recipe, ["hflip", "vflip", "transpose"], 4)
    seen = {transform(corner, draw_key(0, 0, image)).tobytes() for image in range(200)}
    assert len(seen) == 8


def test_only_granted_symmetries_are_used() -> None:
    corner = np.zeros((8, 8, 3), np.uint8)
    corner[:4, :4] = 255
    plain = train_transform(Recipe(model="x", image_size=8, epochs=1, lr=1), [], 8)
    declined = train_transform(Recipe(model="x", image_size=8, epochs=1, lr=1, symmetries=False), ["hflip"], 8)
    for transform in (plain, declined):
        for image in range(20):
            np.testing.assert_array_equal(transform(corner, image), corner)


def test_resize_policies() -> None:
    wide = np.zeros((40, 80, 3), np.uint8)
    wide[:, 20:60] = 200  # the middle square is all that a full-height centre crop sees
    base = {"model": "x", "image_size": 20, "epochs": 1, "lr": 1}
    cropped = eval_transforms(Recipe(**base, resize="crop", crop_share=1.0))[0](wide, 0)
    assert (cropped == 200).all()
    squashed = eval_transforms(Recipe(**base))[0](wide, 0)
    assert squashed.shape == (20, 20, 3) and (squashed[:, :5] == 0).all() and (squashed[:, 5:15] == 200).all()
    boxed = eval_transforms(Recipe(**base, resize="letterbox"))[0](wide, 0)
    assert (boxed[:5] == 128).all() and (boxed[15:] == 128).all()  # all of it, in its shape, on grey
    assert (boxed[5:15, :5] == 0).all() and (boxed[5:15, 5:15] == 200).all() and (boxed[5:15, 15:] == 0).all()


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_256_and_the_centre_224_are_torchvisions(interpolation: str) -> None:
    """A smooth picture, so that what differs is the place of the crop and not the filter of the resize."""
    y, x = np.mgrid[0:300, 0:400]
    picture = np.stack([x / 2, y / 2, (x + y) / 4], axis=2).astype(np.uint8)
    recipe = Recipe(model="x", image_size=224, epochs=1, lr=1, resize="crop", crop_share=0.875)
    ours = eval_transforms(recipe, IMAGENET._replace(interpolation=interpolation, crop_share=0.5))[0](picture, 0)
    theirs = v2.Compose([v2.Resize(256, v2.InterpolationMode(interpolation)), v2.CenterCrop(224)])
    expected = theirs(torch.from_numpy(picture).permute(2, 0, 1)).permute(1, 2, 0).numpy()
    assert np.abs(ours.astype(int) - expected.astype(int)).max() <= 2
    told = Recipe(model="x", image_size=224, epochs=1, lr=1, resize="crop")  # the share that the weights tell
    assert np.abs(eval_transforms(told, IMAGENET._replace(crop_share=0.5))[0](picture, 0) - expected).max() > 2


@pytest.mark.parametrize(
    "name", ["random_resized_crop", "affine", "color_jitter", "invert", "grayscale", "noise", "erase"]
)
def test_every_augmentation_changes_a_picture_and_keeps_its_form(name: str) -> None:
    image = np.random.default_rng(0).integers(0, 255, (24, 30, 3), dtype=np.uint8)
    arguments = {} if name == "random_resized_crop" else {"p": 1.0}
    recipe = Recipe(model="x", image_size=24, epochs=1, lr=1, augment={name: arguments})
    transform = train_transform(recipe, [], 24)
    plain = eval_transforms(recipe)[0](image, 0)
    for seed in range(3):  # noise may draw a strength near nothing
        changed = transform(image, seed)
        assert changed.shape == (24, 24, 3) and changed.dtype == np.uint8
        if (changed != plain).any():
            return
    pytest.fail(f"{name} changes nothing")


@pytest.mark.parametrize("symmetries", [[], ["hflip"], ["hflip", "vflip"], ["hflip", "rot90", "transpose"]])
def test_the_shortest_path_makes_the_bits_of_albumentations(symmetries: list[str]) -> None:
    image = np.random.default_rng(0).integers(0, 255, (30, 41, 3), dtype=np.uint8)
    recipe = Recipe(model="x", image_size=16, epochs=1, lr=1, augment={"random_resized_crop": {"scale": [0.2, 1]}})
    short = train_transform(recipe, symmetries, 16)
    assert isinstance(short, CropAndTurn)
    out = np.empty((16, 16, 3), np.uint8)
    for key in range(60):
        for mirrored in (False, True):
            expected = Augmenter.__call__(short, image, key, mirrored)
            np.testing.assert_array_equal(short(image, key, mirrored), expected)
            assert short(image, key, mirrored, out) is not None
            np.testing.assert_array_equal(out, expected)


def test_a_recipe_that_does_more_than_crop_and_turn_goes_through_albumentations() -> None:
    assert not isinstance(train_transform(RECIPE, ["hflip"], 16), CropAndTurn)
    assert not isinstance(train_transform(Recipe(model="x", image_size=8, epochs=1, lr=1), [], 8), CropAndTurn)


def test_images_grow_with_the_epochs(shapes: Paths, rows: pd.DataFrame) -> None:
    recipe = load_recipe("tiny", ["epochs=10", "image_size=32", "start_scale=0.5"])
    sides = [recipe.side_at(epoch) for epoch in range(10)]
    assert sides == sorted(sides) and sides[0] == 16 and set(sides[7:]) == {32}
    pixels = open_pixels(shapes, rows, recipe.cache_side, "train")
    dataset = ImageDataset(pixels, rows[rows["split"] == "train"], train_transforms(recipe, []))
    loader = Loader(dataset, EpochBatches(60, 8, seed=0), 0, False)
    assert [next(loader.epoch(epoch))[0].shape[1] for epoch in range(10)] == sides
    smaller = load_recipe("tiny", ["image_size=64", "train_scale=0.8", "start_scale=0.75"])
    assert [smaller.side_at(epoch) for epoch in range(2)] == [40, 51]
    larger = load_recipe("tiny", ["image_size=64", "start_scale=0.75", "epochs=10"])
    assert [larger.side_at(epoch) for epoch in range(10)] == [48] * 4 + [64] * 6


def test_an_alternating_flip_shows_both_sides_of_every_picture_in_turn(shapes: Paths, rows: pd.DataFrame) -> None:
    recipe = load_recipe("tiny", ["alternating_flip=true", "epochs=4"])
    train = rows[rows["split"] == "train"]
    pixels = open_pixels(shapes, rows, recipe.cache_side, "train")
    dataset = ImageDataset(pixels, train, train_transforms(recipe, ["hflip"]), alternating_flip=True)
    first_sides = set()
    for row in range(20):
        epochs = [dataset[epoch, row] for epoch in range(3)]
        np.testing.assert_array_equal(epochs[0], epochs[2])
        np.testing.assert_array_equal(epochs[0][:, ::-1], epochs[1])
        first_sides.add(dataset.is_mirrored(0, row))
    assert first_sides == {True, False}
