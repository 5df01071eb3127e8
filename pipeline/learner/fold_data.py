"""Loads the images of one fold as batches, with their targets."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pipeline.learner.arrangement import Compute
from pipeline.learner.inference import views_of
from pipeline.learner.memory import Room
from pipeline.learner.models import Network
from pipeline.learner.resident import train_batches, val_batches
from pipeline.pixels.augment import eval_transforms, has_alternating_flip, train_transforms
from pipeline.pixels.cache import open_pixels, readable_rows
from pipeline.pixels.dataset import Batches, EpochBatches, ImageDataset
from pipeline.records.job import Job
from pipeline.records.runs import RunTables
from pipeline.tasks.metrics import Metric
from pipeline.tasks.task import Task


@dataclass(frozen=True)
class FoldData:
    """The data of a fold: N train rows, M validation rows (0 with FOLD=all), a sample of K train rows, C targets.

    train, val: batches; train is augmented and shuffled by epoch
    train_sample: batches of K train images without augmentation, for the train score
    train_images, val_images: the datasets of these batches, to draw pictures of them
    train_rows, val_rows: image_id and label, by row of the batches
    train_targets, val_targets, train_sample_targets: (N, C), (M, C), (K, C) float32
    task: what targets and predictions mean, fitted to the train targets
    metric: the metric of the competition
    to_predict: number of images that will pass through models after the training
    """

    train: Batches
    val: Batches
    train_sample: Batches
    train_images: ImageDataset
    val_images: ImageDataset
    train_rows: pd.DataFrame
    val_rows: pd.DataFrame
    train_targets: np.ndarray
    val_targets: np.ndarray
    train_sample_targets: np.ndarray
    task: Task
    metric: Metric
    to_predict: int

    def val_scores(self, predictions: np.ndarray) -> dict[str, float]:
        """val_loss and val_score of predictions (M, C) of the validation rows; {} without any (FOLD=all)."""
        if not len(predictions):
            return {}
        loss = self.task.val_loss(self.val_targets, predictions)
        return {"val_loss": loss, "val_score": self.task.score(self.metric, self.val_targets, predictions)}


def load_data(job: Job, tables: RunTables, fold: int, network: Network, compute: Compute) -> FoldData:
    """Loads the images of one fold as batches; builds the cache of decoded images if it is missing."""
    recipe, competition, task, device, ranks = job.recipe, job.competition, tables.task, compute.device, compute.ranks
    readable = readable_rows(tables.manifest)
    table = tables.folds.merge(readable[["image_id", "split", "position"]].query("split == 'train'"), validate="1:1")
    train_rows, val_rows = table[table["fold"] != fold], table[table["fold"] == fold]
    sampled = len(val_rows) or math.ceil(len(train_rows) / job.num_folds)
    sample_rows = train_rows.sample(min(len(train_rows), sampled), random_state=recipe.seed)

    pixels = open_pixels(job.paths, readable, recipe.cache_side, "train")
    transforms = train_transforms(recipe, competition.symmetries, network.preprocessing)
    whole = eval_transforms(recipe, network.preprocessing)
    flips = has_alternating_flip(recipe, competition.symmetries)
    train_images = ImageDataset(pixels, train_rows, transforms, recipe.seed, flips)
    val_images, sample_images = (ImageDataset(pixels, rows, whole) for rows in (val_rows, sample_rows))
    workers = compute.workers(job.machine.workers, pixels.cached is not None)
    order = EpochBatches(
        len(train_images), recipe.batch_size, recipe.seed, 2 if job.call.dry_run else None, ranks.share
    )
    ranks.require_divisible(order.batch_size)
    room = Room(compute.arrangement.kept_bytes)

    def in_order(rows: pd.DataFrame) -> EpochBatches:
        """Batches without randomness, or this rank's share of them."""
        return EpochBatches(len(rows), recipe.batch_size, share=ranks.share)

    train_targets = task.targets(train_rows["label"])
    test_rows = int((readable["split"] == "test").sum())
    return FoldData(
        train=train_batches(train_images, order, workers, device, room),
        val=val_batches(val_images, in_order(val_rows), workers, device, room),
        train_sample=val_batches(sample_images, in_order(sample_rows), workers, device, room),
        train_images=train_images,
        val_images=val_images,
        train_rows=train_rows,
        val_rows=val_rows,
        train_targets=train_targets,
        val_targets=task.targets(val_rows["label"]),
        train_sample_targets=task.targets(sample_rows["label"]),
        task=task.fitted(train_targets, recipe.objective),
        metric=tables.metric,
        to_predict=len(views_of(job)) * (len(table) + competition.folds.n * test_rows),
    )
