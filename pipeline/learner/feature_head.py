"""Trains the head of a fold on the features of a frozen backbone, and predicts with such heads.

Legend: V views, N rows, D features, C targets.
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from pipeline.learner.arrangement import Compute
from pipeline.learner.features import FeatureBank, linear_head
from pipeline.learner.fold_data import FoldData
from pipeline.learner.inference import Model, views_of
from pipeline.learner.linear import Head, Problem, fit_with_chosen_penalty, quick_products
from pipeline.learner.models import Network
from pipeline.learner.saving import FoldStore
from pipeline.pixels.cache import Pixels, readable_rows
from pipeline.pixels.preprocessing import Preprocessing
from pipeline.records.job import Job
from pipeline.records.names import fold_name
from pipeline.records.runs import RunTables
from pipeline.records.tables import write_csv
from pipeline.system.console import say
from pipeline.system.errors import InputError, StaleError
from pipeline.system.places import shown
from pipeline.tasks.nesting import parts_of
from pipeline.tasks.task import Task

#: Number of nearest neighbours whose labels are averaged, to compare the head with.
NEIGHBOURS = 10


class HeadLog:
    """The log of a head that was fitted at once: one epoch. Like TrainingLog, it is written when it is closed."""

    def __init__(self, folder: Path, row: dict[str, Any], penalties: pd.DataFrame) -> None:
        self.folder, self.history, self.penalties = folder, [row], penalties

    @property
    def table(self) -> pd.DataFrame:
        """The log, one row."""
        return pd.DataFrame(self.history)

    def close(self, heading: str) -> None:
        """Writes log.csv and penalties.csv."""
        write_csv(self.folder / "log.csv", self.table)
        write_csv(self.folder / "penalties.csv", self.penalties)


@dataclass(frozen=True)
class FittedHead:
    """A head that was fitted to the train rows of a fold.

    predictions: (M, C), of the validation rows
    log: its log, not yet written
    facts: penalty, train_score and, if there are validation rows, neighbours_score: that of the nearest neighbours
    """

    predictions: np.ndarray
    log: HeadLog
    facts: dict[str, float]


@torch.inference_mode()
def predict_features(head: nn.Module, task: Task, features: np.ndarray) -> np.ndarray:
    """Predictions (N, C) float32 of a head for features (V, N, D), averaged over the views."""
    by_view = [task.predictions(head(torch.from_numpy(of_view))) for of_view in features]
    return torch.stack(by_view).mean(dim=0).numpy()


class HeadsOnFeatures:
    """The heads of trained folds, which share one backbone."""

    def __init__(
        self, job: Job, models: dict[int, Model], preprocessing: Preprocessing, pixels: Pixels, compute: Compute
    ) -> None:
        """models: by fold"""
        banks = [FeatureBank(job, Network(model.module, preprocessing), pixels, compute) for model in models.values()]
        if len({bank.folder for bank in banks}) > 1:
            raise StaleError(
                f"the folds of {job.run.name} have different backbones; delete {shown(job.run_folder)} and train again"
            )
        self.models, self.bank, self.views = models, banks[0], views_of(job)

    def features(self, readable: pd.DataFrame) -> np.ndarray:
        """The features (V, N, D) of all readable images."""
        return self.bank.of_views(readable, self.views)

    def predict(self, features: np.ndarray, positions: np.ndarray, folds: list[int]) -> list[np.ndarray]:
        """Predictions (M, C) float32 of each fold for the images at these positions (M,), averaged over the views."""
        heads = [
            (linear_head(self.models[fold].module, self.bank.job.recipe), self.models[fold].task) for fold in folds
        ]
        return [predict_features(head, task, features[:, positions]) for head, task in heads]


def parts_to_leave_out(rows: pd.DataFrame) -> np.ndarray:
    """The part (N,) int of each train row, to choose the penalty: the other folds; of a single one, parts of groups."""
    groups = rows["group"].where(rows["group"] != "", rows["image_id"])
    parts = parts_of(rows["fold"].to_numpy(), pd.factorize(groups)[0])
    return parts if len(np.unique(parts)) > 1 else np.arange(len(parts)) % 2  # all rows may be of one group


def mean_of_neighbours(train: np.ndarray, targets: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The mean target (M, C) of the NEIGHBOURS nearest train rows, by cosine, of other rows.

    train: (N, D) features; targets: (N, C); others: (M, D) features
    """
    from sklearn.neighbors import KNeighborsRegressor  # here, since its import takes a second

    centre = train.mean(axis=0)
    nearest = KNeighborsRegressor(min(NEIGHBOURS, len(train)), metric="cosine", algorithm="brute")
    return nearest.fit(train - centre, targets).predict(others - centre).reshape(len(others), -1)


def train_head(
    job: Job, tables: RunTables, data: FoldData, network: Network, compute: Compute, store: FoldStore
) -> FittedHead:
    """Fits the head of the network, in place, to the train rows of a fold, with the penalty that suits them.

    The features are computed first, unless they are there. If a signal or the clock stops that, those that were
    computed are kept.
    """
    if compute.ranks.size > 1:
        wanted = "kind = 'features'" if job.recipe.kind == "features" else "head_first = true"
        raise InputError(f"{wanted} in the recipe needs only one process for each fold; leave out GPUS")

    def check() -> None:
        store.stop.leave("the features that were computed are kept")

    module, pixels = network.module, data.val_images.pixels
    bank = FeatureBank(job, network, pixels, compute, check)
    began, task, recipe = time.monotonic(), data.task, job.recipe
    readable = readable_rows(tables.manifest)
    features = bank.of_views(readable, views_of(job))
    train, val = (features[:, rows["position"].to_numpy()] for rows in (data.train_rows, data.val_rows))
    seen = [*train]
    if recipe.augmented_views:
        in_train = readable[readable["split"] == "train"]
        more = bank.augmented(in_train, list(job.competition.symmetries), recipe.augmented_views)
        seen += [*more[:, pd.Index(in_train["position"]).get_indexer(data.train_rows["position"])]]

    parts = parts_to_leave_out(data.train_rows)

    def loss_of_part(part: int, head: Head) -> float:
        here = parts == part
        by_view = [task.predictions(head.logits(of_view[here])) for of_view in train]
        return task.val_loss(data.train_targets[here], torch.stack(by_view).mean(dim=0).numpy())

    repeated = np.tile(data.train_targets, (len(seen), 1))
    loss = task.loss(data.train_targets, recipe.objective)
    with quick_products(bank.compute.arrangement.threads):
        problem = Problem(np.concatenate(seen), repeated, loss, np.tile(parts, len(seen)), loss_of_part)
        head, penalty, tried = fit_with_chosen_penalty(problem)
        of_neighbours = None
        if len(data.val_rows):
            of_neighbours = mean_of_neighbours(train.mean(axis=0), data.train_targets, val.mean(axis=0))

    layer = linear_head(module, recipe)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(head.weight.T))
        layer.bias.copy_(torch.from_numpy(head.bias))
    layer = copy.deepcopy(layer).cpu()
    of_train, of_val = (predict_features(layer, task, of_rows) for of_rows in (train, val))
    facts = {"penalty": penalty, "train_score": task.score(data.metric, data.train_targets, of_train)}
    beside = ""
    if of_neighbours is not None:
        facts["neighbours_score"] = task.score(data.metric, data.val_targets, of_neighbours)
        beside = "; with the labels of the nearest neighbours instead of the head, "
        beside += f"{data.metric.name} {facts['neighbours_score']:.4f}"
    say("train", f"{fold_name(store.fold)}: penalty {penalty:.0e}, the best for other train rows{beside}")
    row = {
        "epoch": 1,
        "train_loss": task.val_loss(data.train_targets, of_train),
        "train_score": facts["train_score"],
        **data.val_scores(of_val),
        "seconds": time.monotonic() - began,
    }
    penalties = pd.DataFrame(tried, columns=["penalty", "val_loss"])
    return FittedHead(of_val, HeadLog(store.folder, row, penalties), facts)
