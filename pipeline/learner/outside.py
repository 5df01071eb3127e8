"""Predicts images that are not in the manifest, with the trained folds of a run.

Legend: K models (a fold of a seed each), N images, C targets.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from pipeline.learner.arrangement import Compute, choose_arrangement
from pipeline.learner.device import find_device
from pipeline.learner.inference import Model, fuse_batchnorm, predict, views_of
from pipeline.learner.trained import load_folds
from pipeline.pixels.augment import eval_transforms
from pipeline.pixels.cache import Pixels
from pipeline.pixels.dataset import EpochBatches, ImageDataset, Loader, WithProgress
from pipeline.records.job import Job
from pipeline.records.runs import differences, made_of
from pipeline.records.task import metric_of, read_task
from pipeline.system.errors import StaleError
from pipeline.system.files import read_record
from pipeline.system.places import shown
from pipeline.tasks.postprocessing import apply_steps
from pipeline.tasks.task import Rule


class Outside:
    """The trained folds of a job, ready for images from anywhere.

    described: which they are, in words
    task: what their predictions mean
    compute: the device and what it computes with
    models: the K models, on the device
    """

    def __init__(self, job: Job) -> None:
        """Raises FoldwiseError if no fold of the job is trained, or if the run was made with other settings."""
        self.job = job
        self.task = read_task(job.paths, job.competition)
        device = find_device(job.machine.device)
        self.compute = Compute(device, choose_arrangement(job.recipe, device, job.machine, 0))
        self.compute.arrangement.set_up()
        loaded: list[Model] = []
        for part in job.of_seeds:
            folds = [fold for fold in job.folds if (part.fold_folder(fold) / "trained.json").exists()]
            before = made_of(job.paths, part.run.name)
            if not folds or before is None:
                raise StaleError(
                    f"no fold of {part.run.name} is trained on {job.paths.competition}; "
                    f"type: {job.call.make_line('train')}"
                )
            choices = part.recipe.choices
            if differing := differences({key: before.get(key) for key in choices}, choices):
                raise StaleError(
                    f"{shown(part.run_folder)} was made with other settings ({differing}); undo the change"
                )
            of_folds, self.preprocessing = load_folds(part, folds, before, self.task)
            loaded += of_folds.values()
        self.models = [Model(self.compute.place(module), task) for module, task in loaded]
        self.described = f"{replace(job.members, folds=folds).described} of {job.run.name}"
        self.normalize = self.compute.normalize(self.preprocessing)

    @cached_property
    def learnt(self) -> dict[str, Any]:
        """What the ensemble stage has learnt: ``rule`` and ``steps``; {} if it has not run."""
        return read_record(self.job.predictions.record) if self.job.predictions.record.exists() else {}

    @property
    def rule(self) -> Rule:
        """How predictions become decisions: as the ensemble stage has learnt it, else the default rule."""
        default = self.task.default_rule(metric_of(self.job.competition, self.task, self.job.paths))
        return self.learnt.get("rule", {}) if self.learnt else default

    def after_steps(self, predictions: np.ndarray) -> np.ndarray:
        """The predictions (N, C) after the steps that the ensemble stage has learnt."""
        return apply_steps(self.task, predictions, self.learnt.get("steps", []))

    def dataset(self, rows: pd.DataFrame) -> ImageDataset:
        """The images of readable rows (image_id, path, width, height, sha256, position); their paths are absolute."""
        pixels = Pixels(self.job.paths.home, rows, self.job.recipe.cache_side, None)
        return ImageDataset(pixels, rows, eval_transforms(self.job.recipe, self.preprocessing))

    def predict(self, dataset: ImageDataset, stage: str, fused: bool = False) -> np.ndarray:
        """Predictions (K, N, C) float32, averaged over the views.

        fused: merge BatchNorm into the convolutions, as the predict stage does
        """
        job, compute = self.job, self.compute
        workers = compute.workers(job.machine.workers, False)
        order = EpochBatches(len(dataset), job.recipe.batch_size)
        loader = Loader(dataset, order, workers, compute.device.type == "cuda")
        models = [Model(fuse_batchnorm(module), task) for module, task in self.models] if fused else self.models
        return np.stack(
            predict(models, self.normalize, WithProgress(loader, stage, "predicting"), views_of(job), compute)
        )
