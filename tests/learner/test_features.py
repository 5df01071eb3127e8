"""Features are computed once, kept on disk, and the same after an interruption."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.learner import features
from pipeline.learner.arrangement import Compute, choose_arrangement
from pipeline.learner.features import FeatureBank, backbone_of, linear_head
from pipeline.learner.models import Network, build_model
from pipeline.pixels.augment import eval_transforms
from pipeline.pixels.cache import open_pixels, readable_rows
from pipeline.pixels.dataset import ImageDataset
from pipeline.records.command_line import Machine
from pipeline.records.job import Job, make_job
from pipeline.records.paths import Paths
from pipeline.records.recipe import load_recipe
from pipeline.records.tables import read_manifest
from pipeline.system.errors import FoldwiseError

SETTINGS = ["model=torchvision/mobilenet_v2", "image_size=32"]


def bank_of(job: Job, check: object = lambda: None) -> FeatureBank:
    device = torch.device("cpu")
    compute = Compute(device, choose_arrangement(job.recipe, device, Machine(threads=1), 0))
    network = build_model(job.recipe, 2, True)
    pixels = open_pixels(job.paths, readable_rows(read_manifest(job.paths.manifest)), job.recipe.cache_side, "train")
    return FeatureBank(job, network, pixels, compute, check)  # type: ignore[arg-type]


def test_features_are_the_input_of_the_head_in_each_view(split: Paths) -> None:
    job = make_job("shapes", "features", SETTINGS)
    bank, readable = bank_of(job), readable_rows(read_manifest(split.manifest))
    made = bank.of_views(readable, [(), ("hflip",)])
    assert made.shape == (2, 71, 1280) and made.dtype == np.float32
    module = bank.module.eval()
    normalize = bank.compute.normalize(bank.preprocessing)
    picture = ImageDataset(bank.pixels, readable, eval_transforms(job.recipe, bank.preprocessing))[0, 5]
    inputs = normalize(torch.from_numpy(picture)[None])
    with torch.inference_mode():
        for view, turned in enumerate((inputs, inputs.flip(-1))):
            logits = linear_head(module, job.recipe)(torch.from_numpy(made[view, 5:6]))
            torch.testing.assert_close(logits, module(turned), atol=1e-5, rtol=1e-4)
    subset = bank.of_views(readable.iloc[:3], [()])
    np.testing.assert_allclose(subset[0], made[0, :3], atol=1e-4)


def test_an_interruption_changes_nothing_and_nothing_is_computed_twice(
    split: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "BATCHES", 1)
    job, readable = make_job("shapes", "features", SETTINGS), readable_rows(read_manifest(split.manifest))
    calls = []

    def count() -> None:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bank_of(job, count).of_views(readable, [()])
    made = bank_of(job, count).of_views(readable, [()])
    assert len(calls) == 2 + 2  # three batches: one before the interruption, two after it
    again = bank_of(job, count).of_views(readable, [()])
    assert len(calls) == 4 and np.array_equal(made, again)
    files = sorted(split.cache.glob("features-*/plain-*.npy"))
    assert len(files) == 3
    files[1].write_bytes(files[1].read_bytes()[:500])  # damaged: made again
    assert np.array_equal(bank_of(job).of_views(readable, [()]), made)
    for path in split.cache.glob("features-*/*.npy"):
        path.unlink()
    assert np.array_equal(bank_of(job).of_views(readable, [()]), made)


def test_other_pictures_weights_or_sizes_have_other_files(split: Paths) -> None:
    readable = readable_rows(read_manifest(split.manifest))
    names: set[Path] = set()
    for settings in (SETTINGS, ["image_size=40"], ["resize=crop"], ["mean=[0.1,0.1,0.1]"], ["interpolation=nearest"]):
        bank = bank_of(make_job("shapes", "features", [*SETTINGS[:1], *settings[-1:]]))
        names.add(bank.folder)
        with torch.no_grad():
            next(bank.module.parameters()).mul_(1.01)
        names.add(FeatureBank(bank.job, Network(bank.module, bank.preprocessing), bank.pixels, bank.compute).folder)
        with torch.no_grad():
            linear_head(bank.module, bank.job.recipe).weight.mul_(2)  # the head is not part of the backbone
        names.add(FeatureBank(bank.job, Network(bank.module, bank.preprocessing), bank.pixels, bank.compute).folder)
    assert len(names) == 10
    bank = bank_of(make_job("shapes", "features", SETTINGS))
    bank.of_views(readable.iloc[:4], [()])
    bank.of_views(readable.iloc[1:5], [()])
    assert len([*bank.folder.glob("*.npy")]) == 2


def test_a_head_that_is_not_linear_is_refused() -> None:
    recipe = load_recipe("features", ["model=torchvision/squeezenet1_1"])
    module = build_model(recipe, 2).module
    with pytest.raises(FoldwiseError, match="'features' in the recipe needs a model whose head is one linear layer"):
        linear_head(module, recipe)
    assert backbone_of(module) is not module
