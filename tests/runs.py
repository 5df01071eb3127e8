"""Runs whose predictions are drawn instead of learnt, through the stages after training."""

from __future__ import annotations

import numpy as np
import pandas as pd

from pipeline import ensemble
from pipeline.records.combined import Prediction
from pipeline.records.job import Job, make_job
from pipeline.records.predictions import Predictions
from pipeline.records.runs import open_run, start_run
from pipeline.records.up_to_date import predict_files
from pipeline.system.files import write_json, write_record


def draw_predictions(job: Job, noise: float, seed: int) -> None:
    """Writes what train and predict leave behind: predictions that see the labels through this much noise.

    The test images of the shapes with odd ids are squares, the others circles. For other tasks, their labels are those
    of the first train images.
    """
    rng, tables = np.random.default_rng(seed), open_run(job)
    task, names = tables.task, np.array(tables.task.target_names)
    start_run(job, tables.identity, None)
    for fold in job.folds:
        folder = job.fold_folder(fold)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "weights.safetensors").write_text(f"{noise} {seed} {fold}")
        done = {"weights_sha256": f"{seed}", "made_of": tables.identity, "seconds": 2.0, "beside": 1, "device": "cpu"}
        write_json(folder / "trained.json", {**done, "train_score": 1.0})
        rows = tables.folds[tables.folds["fold"] == fold]
        if "square" in names:
            of_test = pd.Series(np.where(tables.test_ids.astype(int) % 2, "square", "circle"))
        else:
            of_test = tables.folds["label"].iloc[: len(tables.test_ids)]
        labels = {"oof": rows["label"], "test": of_test}
        ids = {"oof": rows["image_id"].to_numpy(str), "test": tables.test_ids.to_numpy(str)}
        target, sha256 = predict_files(job.paths, job.run, fold), {}
        for kind, of_kind in labels.items():
            targets = task.targets(of_kind)
            evidence = 2 * targets + noise * rng.normal(size=targets.shape)
            values = task.chances(evidence).astype(np.float32)
            sha256[kind] = Predictions(ids[kind], names, values).save(folder / f"{kind}.npz")
        made = target.new_record(target.hash_inputs(), [folder / "oof.npz", folder / "test.npz"])
        write_record(target.record, {"fold": fold, "weights_sha256": f"{seed}", "sha256": sha256, **made})


def drawn_run(noise: float, seed: int, *settings: str, recipe: str = "tiny", folds: str = "") -> Prediction:
    """A run of the shapes, drawn and combined."""
    job = make_job("shapes", recipe, list(settings), folds)
    draw_predictions(job, noise, seed)
    return ensemble.run(job)
