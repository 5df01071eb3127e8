"""Reads everything that is known of a prediction, of a run or of a blend, for its page.

Legend: N out-of-fold rows, M test rows, C targets.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.records.combined import members_of_test
from pipeline.records.competition import several
from pipeline.records.job import Job
from pipeline.records.ledger import number_in, read_ledger
from pipeline.records.named import prediction_named
from pipeline.records.names import fold_name
from pipeline.records.predictions import Predictions
from pipeline.records.runs import Tables, read_tables
from pipeline.records.scoring import truth_and_values
from pipeline.records.tables import read_csv
from pipeline.system.errors import FoldwiseError, InputError, StaleError
from pipeline.system.files import fingerprint, read_json, read_record
from pipeline.system.places import shown
from pipeline.tasks.postprocessing import apply_steps
from pipeline.tasks.task import Rule, Task

#: What the page needs of score.json.
KEYS = (
    "sha256", "folds", "metric", "rule", "cv_score", "interval_95", "expected_score", "train_score", "partial",
    "training_seconds", "packages", "device", "cpus", "system", "commit", "python",
)  # fmt: skip
#: The columns of log.csv that the curves need.
CURVES = {"epoch", "train_loss", "train_score", "val_loss", "val_score", "seconds"}


@dataclass(frozen=True)
class Material:
    """A prediction and what it was made from.

    job: the run, or the blend
    score: the content of score.json
    tables: manifest, folds, task and metric
    rows: image_id, label, group, fold and path of the N out-of-fold rows
    raw: (N, C), their predictions as the models made them
    values: (N, ...), what the metric looks at: decided as other folds have taught
    """

    job: Job
    score: dict[str, Any]
    tables: Tables
    rows: pd.DataFrame
    raw: np.ndarray
    values: np.ndarray

    @property
    def task(self) -> Task:
        """What the labels mean."""
        return self.tables.task

    @property
    def rule(self) -> Rule:
        """How predictions become decisions, as it was learnt from all rows."""
        return self.score["rule"]

    @cached_property
    def targets(self) -> np.ndarray:
        """(N, C)."""
        return self.task.targets(self.rows["label"])

    @cached_property
    def predictions(self) -> np.ndarray:
        """(N, C), after the steps that were learnt, such as a temperature."""
        return apply_steps(self.task, self.raw, self.score.get("steps_of_one", []))

    @cached_property
    def decisions(self) -> np.ndarray:
        """(N, C), ones where a class or tag is chosen; as they were scored, if the metric looks at decisions."""
        if self.tables.metric.decided:
            return self.values
        return self.task.decide(self.predictions, self.rule)

    @cached_property
    def costs(self) -> np.ndarray:
        """What each row adds to the validation loss, (N,)."""
        fitted = self.task.fitted(self.targets, self.job.recipe.objective)
        return fitted.costs(self.targets, self.predictions)

    @cached_property
    def test_rows(self) -> pd.DataFrame:
        """image_id and path of the M test images, and width, 0 if it cannot be read."""
        manifest = self.tables.manifest
        return manifest.loc[manifest["split"] == "test", ["image_id", "path", "width"]].reset_index(drop=True)

    @cached_property
    def test(self) -> np.ndarray:
        """(M, C), as they were submitted; (0, C) without test images."""
        if not len(self.test_rows):
            return np.zeros((0, len(self.task.target_names)))
        predictions = load(self.job, self.score, "test", self.test_rows["image_id"], self.task)
        return apply_steps(self.task, predictions, self.score.get("steps", []))

    @cached_property
    def members(self) -> dict[str, np.ndarray]:
        """The test predictions (M, C) of each fold of a run or each run of a blend, by its name, if they are there."""
        if not len(self.test_rows):
            return {}
        try:
            if not self.job.call.blend:
                return dict(zip(map(fold_name, self.folds), members_of_test(self.job, self.tables), strict=True))
            return {name: self.test_of_run(name) for name in self.score["members"]}
        except FoldwiseError:
            return {}

    def test_of_run(self, name: str) -> np.ndarray:
        """The test predictions (M, C) of a run of the blend."""
        files = prediction_named(self.job.paths, name)
        loaded = Predictions.load(files.test, read_record(files.record, "sha256")["sha256"].get("test", ""), "")
        return loaded.aligned(self.test_rows["image_id"], self.task.target_names, shown(files.test), "")

    @cached_property
    def logs(self) -> dict[int, pd.DataFrame]:
        """The log of the training of each fold, by its number, of the first seed; {} for a blend."""
        found = {fold: self.job.fold_folder(fold) / "log.csv" for fold in self.folds}
        logs = {fold: read_csv(path).astype(float) for fold, path in found.items() if path.exists()}
        return {fold: log for fold, log in logs.items() if {*log.columns} >= CURVES}  # not those of older versions

    @property
    def folds(self) -> list[int]:
        """The folds of a run; [] for a blend."""
        return [] if self.job.call.blend else self.job.folds

    @cached_property
    def submission(self) -> dict[str, Any]:
        """The record of the submission; {} if there is none of these predictions."""
        record = self.job.paths.submission(self.job.predictions.name).with_suffix(".json")
        if not record.exists():
            return {}
        about = read_json(record)
        same = (about.get("score") or {}).get("sha256") == self.score["sha256"]
        return about if same else {}

    @cached_property
    def leaderboard(self) -> float | None:
        """The leaderboard score that the user has noted."""
        ledger = read_ledger(self.job.paths)
        noted = ledger[(ledger["what"] == "leaderboard") & (ledger["name"] == self.job.predictions.name)]
        return number_in(noted.iloc[-1], "score") if len(noted) else None

    @property
    def recipe_text(self) -> str:
        """The complete recipe of a run."""
        path = self.job.run_folder / "recipe.toml"
        return path.read_text(encoding="utf-8") if path.exists() else ""


def load(job: Job, score: dict[str, Any], which: str, ids: pd.Series, task: Task) -> np.ndarray:
    """The predictions (N, C) of these rows; which: "oof" or "test"."""
    files = job.predictions
    path = files.oof if which == "oof" else files.test
    again = f"delete {shown(files.record)} and type: {job.call.make_line(job.call.combined_by)}"
    loaded = Predictions.load(path, score["sha256"].get(which, ""), again)
    return loaded.aligned(ids, task.target_names, shown(path), again)


def read_material(job: Job) -> Material:
    """Reads the prediction of a job; raises FoldwiseError if it is not combined, or of other folds than there are."""
    files = job.predictions
    again = job.call.make_line(job.call.combined_by)
    if not files.record.exists() and job.call.blend:
        there = sorted(path.parent.name for path in job.paths.blends.glob("*/score.json"))
        listed = f"there are {', '.join(there)}" if there else "there is none"
        raise InputError(f"there is no blend '{files.name}' of {job.paths.competition} ({listed})")
    if not files.record.exists():
        which = f"the dry run of {files.name}" if job.call.dry_run else files.name
        raise StaleError(f"{which} of {job.paths.competition} is not combined yet; type: {again}")
    score = read_record(files.record, *KEYS)
    tables = read_tables(job.paths, job.competition)
    if score.get("folds_sha256") != fingerprint(job.paths.folds):
        raise StaleError(f"{files.name} was made with other folds than {shown(job.paths.folds)} has now; type: {again}")
    if "oof" not in score["sha256"]:  # a training on all rows
        empty = np.zeros((0, len(tables.task.target_names)))
        return Material(job, score, tables, with_paths(tables.folds.iloc[:0], tables), empty, empty)
    rows = tables.rows_of(score["folds"]).reset_index(drop=True)
    raw = load(job, score, "oof", rows["image_id"], tables.task)
    values = truth_and_values(rows, tables, raw)[1]
    return Material(job, score, tables, with_paths(rows, tables), raw, values)


def with_paths(rows: pd.DataFrame, tables: Tables) -> pd.DataFrame:
    """The rows with the path of each image."""
    manifest = tables.manifest[tables.manifest["split"] == "train"].set_index("image_id")
    return rows.assign(path=manifest["path"].reindex(rows["image_id"]).to_numpy())


def image_file(job: Job, path: str) -> Path | None:
    """The file of an image of the manifest; None unless it is in a folder of the competition."""
    source = job.competition
    named = [*several(source.train.images), *(several(source.test.images) if source.test else [])]
    folders = [job.paths.home, job.paths.shipped, *(Path(name) for name in named if Path(name).is_absolute())]
    file = Path(os.path.normpath(job.paths.home / path))
    return file if any(file.is_relative_to(os.path.normpath(folder)) for folder in folders) else None
