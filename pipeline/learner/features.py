"""Computes the features of images with a frozen backbone, once for each view, and keeps them on disk.

Like the cache of decoded images, they are shared by all folds, heads and seeds: their names depend on the content of
the images, on the weights, and on everything else that decides their values.

Legend: N readable images, D features, B batch, S image side.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from pipeline.learner.arrangement import Compute
from pipeline.learner.inference import View, apply_view, fuse_batchnorm
from pipeline.learner.memory import in_parts
from pipeline.learner.models import Network
from pipeline.learner.transfer import head_of, in_head
from pipeline.pixels.augment import eval_transforms, train_transforms
from pipeline.pixels.cache import Pixels
from pipeline.pixels.dataset import EpochBatches, ImageDataset, Loader
from pipeline.pixels.decode import DECODER
from pipeline.records.job import Job
from pipeline.records.recipe import Recipe
from pipeline.system.console import duration, progress, say
from pipeline.system.errors import InputError
from pipeline.system.files import atomic_path, fingerprint
from pipeline.system.locks import held
from pipeline.system.places import shown
from pipeline.system.threads import cores

#: Images of a batch, and batches of a file: after an interruption, the files that are there are not computed again.
BATCH, BATCHES = 32, 32


def linear_head(module: nn.Module, recipe: Recipe) -> nn.Linear:
    """The head of a network; raises FoldwiseError if it is not a single linear layer with a bias."""
    heads = [module.get_submodule(part) for part in head_of(module)]
    if len(heads) == 1 and isinstance(heads[0], nn.Linear) and heads[0].bias is not None:
        return heads[0]
    wanted = "kind = 'features'" if recipe.kind == "features" else "head_first = true"
    raise InputError(
        f"{wanted} in the recipe needs a model whose head is one linear layer with a bias, which '{recipe.model}' does "
        "not have; choose another model"
    )


def backbone_of(module: nn.Module) -> nn.Module:
    """A copy of the network in eval mode without its head: inputs (B, 3, S, S) -> features (B, D)."""
    backbone = fuse_batchnorm(copy.deepcopy(module))
    for name in head_of(module):
        backbone.set_submodule(name, nn.Identity())
    return backbone


def weights_sha256(module: nn.Module) -> str:
    """The sha256 of the weights and buffers of a network's backbone."""
    head = head_of(module)
    state = {name: value.cpu().contiguous() for name, value in module.state_dict().items() if not in_head(name, head)}
    return fingerprint({name: fingerprint(value.numpy().tobytes()) for name, value in state.items()})


class FeatureBank:
    """The features of a competition's images by one backbone.

    job: recipe, machine and folders
    network: the network with the backbone
    pixels: the decoded images
    compute: where the backbone runs
    check: called before each batch; it may raise an exception to stop
    """

    def __init__(
        self, job: Job, network: Network, pixels: Pixels, compute: Compute,
        check: Callable[[], object] = lambda: None,
    ) -> None:  # fmt: skip
        self.job, self.module, self.preprocessing = job, network.module, network.preprocessing
        self.pixels, self.compute, self.check = pixels, compute, check
        recipe = job.recipe
        linear_head(self.module, recipe)
        made_of = [
            DECODER, weights_sha256(self.module), recipe.model, recipe.model_args, recipe.image_size, recipe.resize,
            recipe.cache_side, self.preprocessing, compute.device.type, compute.arrangement.dtype,
        ]  # fmt: skip
        self.folder = job.paths.cache / f"features-{fingerprint(made_of)[:12]}"

    def of_views(self, rows: pd.DataFrame, views: list[View]) -> np.ndarray:
        """Features (V, N, D) float32 of the rows in each view of test-time augmentation."""
        dataset = ImageDataset(self.pixels, rows, eval_transforms(self.job.recipe, self.preprocessing))
        return self.require(dataset, {view: "+".join(view) or "plain" for view in views})

    def augmented(self, rows: pd.DataFrame, symmetries: list[str], number: int) -> np.ndarray:
        """Features (``number``, N, D) float32 of the rows, each time with other random augmentations."""
        recipe = self.job.recipe
        transforms = train_transforms(recipe, symmetries, self.preprocessing)
        dataset = ImageDataset(self.pixels, rows, transforms, recipe.seed)
        drawn = fingerprint([recipe.augment, recipe.symmetries, symmetries, recipe.seed, dataset.ids])[:12]
        return np.concatenate([self.require(dataset, {(): f"augmented{n}-{drawn}"}, n) for n in range(number)])

    def require(self, dataset: ImageDataset, names: dict[View, str], epoch: int = 0) -> np.ndarray:
        """Features (V, N, D) of a dataset in the V views of ``names``, from files; computes those that are missing.

        One process computes them, with all cores; others that need them wait.
        """
        content = fingerprint([dataset.pixels.sha256s[position] for position in dataset.positions])[:12]
        starts = range(0, len(dataset), BATCH * BATCHES)
        files = {
            view: [self.folder / f"{name}-{content}-{start:08}.npy" for start in starts] for view, name in names.items()
        }
        while True:
            if self.first_missing(files) is not None:
                with held(
                    self.folder / "lock", lambda: say("train", "waiting for another process that computes features")
                ):
                    first = self.first_missing(files)
                    if first is not None:
                        self.compute_files(dataset, files, first, epoch)
            path = self.folder
            try:
                found = []
                for of_view in files.values():
                    for path in of_view:
                        found.append(np.load(path))
                return np.concatenate(found).reshape(len(files), len(dataset), -1)
            except FileNotFoundError:  # another process has found it damaged
                continue
            except (ValueError, EOFError) as error:
                say("train", f"note: {shown(path)} is damaged and is made again: {error}")
                path.unlink(missing_ok=True)

    def first_missing(self, files: dict[View, list[Path]]) -> int | None:
        """Number of the first file that is not there for every view; None if all are there."""
        there = [all(path.exists() for path in of_views) for of_views in zip(*files.values(), strict=True)]
        return there.index(False) if False in there else None

    def compute_files(self, dataset: ImageDataset, files: dict[View, list[Path]], first: int, epoch: int) -> None:
        """Computes the files from number ``first`` on, each for all views."""
        compute, began = self.compute, time.monotonic()
        threads = torch.get_num_threads()
        torch.set_num_threads(cores())
        backbone, normalize = compute.place(backbone_of(self.module)), compute.normalize(self.preprocessing)
        workers = compute.workers(self.job.machine.workers, self.pixels.cached is not None)
        loader = Loader(dataset, EpochBatches(len(dataset), BATCH), workers, compute.device.type == "cuda")
        batches = loader.epoch(epoch, first * BATCHES)
        found: dict[Path, list[np.ndarray]] = {}
        doing = f"features of {len(dataset):,} images"
        left = range(first * BATCHES, len(loader))
        with torch.inference_mode():
            for number, (images, _) in zip(left, progress(batches, len(left), "train", doing), strict=True):
                self.check()
                inputs = normalize(images.to(compute.device, non_blocking=True))
                for view, of_view in files.items():
                    with compute.precision.autocast():
                        features = in_parts(backbone, apply_view(inputs, view)).flatten(1).float()
                    found.setdefault(of_view[number // BATCHES], []).append(features.cpu().numpy())
                if (number + 1) % BATCHES == 0 or number + 1 == len(loader):
                    for path, parts in found.items():
                        if path.exists():  # for this view it was there before, and another process may read it
                            continue
                        with atomic_path(path) as temporary, temporary.open("wb") as file:
                            np.save(file, np.concatenate(parts))
                    found = {}
        torch.set_num_threads(threads)
        say("train", f"{doing}, {len(files)} views each, in {duration(time.monotonic() - began)}")
