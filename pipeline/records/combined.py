"""Reads the predictions of the folds of a run, and writes combined ones, of a run or of a blend.

Legend: N rows, C targets.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.records.job import Job
from pipeline.records.names import fold_name
from pipeline.records.paths import PredictionFolder
from pipeline.records.predictions import Predictions
from pipeline.records.runs import Tables
from pipeline.records.tables import write_csv
from pipeline.records.up_to_date import predict_files
from pipeline.system.errors import StaleError
from pipeline.system.files import fingerprint, read_json, read_record
from pipeline.system.index import Index
from pipeline.system.places import shown
from pipeline.tasks.task import Task


@dataclass(frozen=True)
class Prediction:
    """The combined predictions of a run or of a blend, and their score.

    oof: id, fold, target, p_<class>...; a row for each train image of the folds, in the order of folds.csv; None for a
        training on all rows
    test: id, p_<class>...; a row for each test image, in the order of the manifest; None without test images
    score: the content of score.json
    """

    oof: pd.DataFrame | None
    test: pd.DataFrame | None
    score: dict[str, Any]


def check_predicted(job: Job, advice: str) -> None:
    """Raises FoldwiseError if a fold has no predictions, or was predicted from other weights, folds or images."""
    index, run = Index(job.paths.home), job.run.name
    for fold in job.folds:
        target = predict_files(job.paths, job.run, fold)
        if not target.record.exists():
            raise StaleError(f"{fold_name(fold)} of {run} has no predictions; {advice}")
        trained = read_json(target.record.with_name("trained.json"), "weights_sha256")
        record = read_record(target.record)
        if record.get("weights_sha256") != trained["weights_sha256"]:
            raise StaleError(f"{fold_name(fold)} of {run} was predicted with other weights than it has now; {advice}")
        if record["read"].get(index.key(job.paths.manifest)) != index.sha256(job.paths.manifest):
            raise StaleError(f"the images have changed since {fold_name(fold)} of {run} was predicted; {advice}")
        if reason := target.reason_to_run(index):
            raise StaleError(f"the predictions of {fold_name(fold)} of {run} are out of date: {reason}; {advice}")
    index.save()


def load_fold(job: Job, fold: int, kind: str, ids: pd.Series, target_names: list[str]) -> np.ndarray:
    """Predictions (N, C) float64 of one fold in the order of ``ids``. kind: "oof" or "test".

    Raises FoldwiseError if the file is damaged, or its ids or classes are not the expected ones.
    """
    path = job.fold_folder(fold) / f"{kind}.npz"
    record = path.with_name("predicted.json")
    again = f"delete {shown(record)} and type: {job.call.make_line('predict')}"
    loaded = Predictions.load(path, read_record(record)["sha256"].get(kind, ""), again)
    return loaded.aligned(ids, target_names, shown(path), f"the images have changed since; {again}")


def stitch(job: Job, tables: Tables) -> tuple[pd.DataFrame, np.ndarray]:
    """The rows of folds.csv that are in the job's folds, and their out-of-fold predictions (N, C).

    Each row is predicted once, by the model that was not trained on it.
    """
    rows = tables.rows_of(job.folds)
    predictions = np.empty((len(rows), len(tables.task.target_names)))
    for fold in job.folds:
        of_fold = (rows["fold"] == fold).to_numpy()
        predictions[of_fold] = load_fold(job, fold, "oof", rows.loc[of_fold, "image_id"], tables.task.target_names)
    return rows, predictions


def members_of_test(job: Job, tables: Tables) -> list[np.ndarray]:
    """The test predictions (M, C) of each fold, averaged over the seeds of the job; [] without test images."""
    if not len(tables.test_ids):
        return []
    names = tables.task.target_names
    by_fold = ([load_fold(part, fold, "test", tables.test_ids, names) for part in job.of_seeds] for fold in job.folds)
    return [np.mean(of_fold, axis=0) for of_fold in by_fold]


def table_of_oof(task: Task, rows: pd.DataFrame, predictions: np.ndarray) -> pd.DataFrame:
    """Out-of-fold predictions (N, C) as in ``Prediction``."""
    table = task.table(predictions)
    for place, (name, column) in enumerate({"id": "image_id", "fold": "fold", "target": "label"}.items()):
        table.insert(place, name, rows[column].to_numpy())
    return table


def table_of_test(task: Task, members: list[np.ndarray], test_ids: pd.Series) -> pd.DataFrame | None:
    """The mean of the members' test predictions, as in ``Prediction``."""
    if not members:
        return None
    table = task.table(np.mean(members, axis=0))
    table.insert(0, "id", test_ids.to_numpy())
    return table


def write_prediction(
    files: PredictionFolder, task: Task, prediction: Prediction, written: Path | None = None
) -> tuple[dict[str, str], list[Path]]:
    """Writes the predictions as .npz (float32) and as CSV; returns the sha256 of each .npz by kind, and all files.

    written: an .npz file that another stage has written already
    """
    kinds = {
        "oof": (prediction.oof, files.oof, files.oof_table),
        "test": (prediction.test, files.test, files.test_table),
    }
    sha256, made = {}, []
    for kind, (table, file, csv) in kinds.items():
        if table is not None:
            write_csv(csv, table)
            made += [file, csv]
            if file == written:
                sha256[kind] = fingerprint(file)
                continue
            values = table[task.columns].to_numpy(np.float32)
            sha256[kind] = Predictions(table["id"].to_numpy(str), np.array(task.target_names), values).save(file)
    return sha256, made
