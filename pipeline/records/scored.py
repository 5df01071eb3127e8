"""Reads combined predictions with what the metric looks at, so that runs and blends can be compared.

Legend: N rows, C targets.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from pipeline.records.combined import stitch
from pipeline.records.command_line import Machine
from pipeline.records.job import job_of_call
from pipeline.records.named import call_of_record, prediction_named
from pipeline.records.paths import Paths
from pipeline.records.predictions import Predictions
from pipeline.records.runs import Tables, made_of
from pipeline.records.scoring import truth_and_values, units_of
from pipeline.system.errors import InputError, StaleError
from pipeline.system.files import fingerprint, read_record
from pipeline.system.places import shown


@dataclass(frozen=True)
class ScoredRows:
    """The out-of-fold rows of a run or blend.

    name: of the prediction
    rows: image_id, label, group and fold of the N rows
    truth, values: what the metric compares, (N, ...), decided as other folds have taught
    score: the content of score.json
    """

    name: str
    rows: pd.DataFrame
    truth: np.ndarray
    values: np.ndarray
    score: dict[str, Any]

    def only(self, ids: pd.Series) -> ScoredRows:
        """The rows with these ids, in their order."""
        places = pd.Index(self.rows["image_id"]).get_indexer(ids)
        return replace(self, rows=self.rows.iloc[places], truth=self.truth[places], values=self.values[places])

    @property
    def units(self) -> np.ndarray:
        """The unit (N,) int of each row, as in intervals.py."""
        return units_of(self.rows)


def load_scored(paths: Paths, tables: Tables, name: str) -> ScoredRows:
    """The rows of the prediction of this name.

    Raises FoldwiseError if there is none, if it has no out-of-fold rows, or if it was made with other folds.
    """
    files = prediction_named(paths, name)
    score = read_record(files.record, "folds_sha256", "sha256", "folds")
    if "oof" not in score["sha256"]:
        raise InputError(
            f"'{name}' is trained on all rows, so that no row is left to compare it by; name its folds' run"
        )
    again = (
        f"combine it again (delete {shown(files.record)}, and type make {'blend' if files.is_blend else 'ensemble'})"
    )
    if score["folds_sha256"] != fingerprint(paths.folds):
        raise StaleError(f"'{name}' was made with other folds than {shown(paths.folds)} has now; {again}")
    rows = tables.rows_of(score["folds"])
    loaded = Predictions.load(files.oof, score["sha256"]["oof"], again)
    predictions = loaded.aligned(rows["image_id"], tables.task.target_names, shown(files.oof), again)
    return ScoredRows(name, rows, *truth_and_values(rows, tables, predictions), score)


def trainings_by_seed(paths: Paths, tables: Tables, scored: ScoredRows) -> dict[str, np.ndarray]:
    """What the metric looks at, (N, ...), of each training that differs from a run in its seed alone, and of the run.

    By the name of the run, or of the part of a run with several seeds; one training for each seed. Trainings that are
    not predicted are left out. {} for a blend.
    """
    if "blend" in scored.score:
        return {}
    job = job_of_call(call_of_record(paths, scored.score, prediction_named(paths, scored.name).record), Machine())
    found: dict[str, np.ndarray] = {}
    wanted = {**(made_of(paths, job.run.name) or {}), "seed": None}
    folders = {folder.parent for folder in paths.all_trainings}
    seeds: set[Any] = set()
    for folder in sorted(folders, key=lambda folder: (folder != job.run_folder, folder)):  # the run itself first
        part = replace(job, run=replace(job.run, name=folder.relative_to(paths.runs).as_posix()))
        of_part = made_of(paths, part.run.name) or {}
        if {**of_part, "seed": None} != wanted or of_part.get("seed") in seeds:
            continue
        if not all((part.fold_folder(fold) / "predicted.json").exists() for fold in job.folds):
            continue
        seeds.add(of_part.get("seed"))
        found[part.run.name] = truth_and_values(scored.rows, tables, stitch(part, tables)[1])[1]
    return found
