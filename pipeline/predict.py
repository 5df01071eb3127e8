"""Stage 5: predict the out-of-fold rows and the test images with each trained fold.

    make predict
    python -m pipeline.predict --competition dogs-vs-cats --recipe resnet18 --folds 0,1

Reads   manifest.csv, folds.csv, runs/<run>/fold<k>/weights.safetensors and trained.json, and the images
Writes  runs/<run>/fold<k>/oof.npz and test.npz (image_ids, target_names, predictions), and, last, predicted.json

The same function makes both, with the same views, so that a choice made on out-of-fold predictions suits the test
predictions too. The test images are read once for all folds.
"""

from __future__ import annotations

from pipeline.records.command_line import parser_for
from pipeline.system.console import answer_early

PARSER = parser_for(__doc__, "run", "folds", "device")
if __name__ == "__main__":  # before the imports that take seconds
    answer_early(PARSER, "predict")

import time
from collections.abc import Callable

import numpy as np
import pandas as pd

from pipeline.learner.arrangement import Compute, computing
from pipeline.learner.feature_head import HeadsOnFeatures
from pipeline.learner.inference import Model, fuse_batchnorm, predict, views_of
from pipeline.learner.review import review
from pipeline.learner.trained import load_folds
from pipeline.pixels.augment import eval_transforms
from pipeline.pixels.cache import open_pixels, readable_rows
from pipeline.pixels.dataset import EpochBatches, ImageDataset, Loader, WithProgress
from pipeline.records.job import Job, job_of
from pipeline.records.names import ALL_ROWS, fold_name
from pipeline.records.predictions import Predictions
from pipeline.records.runs import RunTables, open_run
from pipeline.records.up_to_date import predict_files
from pipeline.system.console import duration, run_stage, say
from pipeline.system.errors import StaleError, count_of
from pipeline.system.files import read_json, write_record
from pipeline.system.places import shown
from pipeline.system.provenance import provenance

#: Predictions by kind: "oof", except for a training on all rows, and "test" if there are test images.
ByKind = dict[str, Predictions]


def weights_of(job: Job) -> dict[int, str]:
    """The sha256 of each fold's weights; raises FoldwiseError if a fold is not trained."""
    weights = {}
    for fold in job.folds:
        record = job.fold_folder(fold) / "trained.json"
        if not record.exists():
            raise StaleError(f"{fold_name(fold)} of {job.run.name} is not trained; type: {job.call.make_line('train')}")
        weights[fold] = read_json(record, "weights_sha256")["weights_sha256"]
    return weights


def with_prior(rows: pd.DataFrame, predictions: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """Predictions (N, C) of all test rows, from those of the readable ones (M, C); the others get the prior (C,)."""
    full = np.tile(prior, (len(rows), 1))
    full[(rows["width"] > 0).to_numpy()] = predictions
    return full


def predictor(job: Job, tables: RunTables, compute: Compute) -> Callable[[pd.DataFrame, list[int], str], list]:
    """A function (rows, folds, description) -> predictions (N, C) of each fold, in one pass over the images.

    The description is for the progress bar.
    """
    recipe, device = job.recipe, compute.device
    pixels = open_pixels(job.paths, readable_rows(tables.manifest), recipe.cache_side, "predict")
    trained, preprocessing = load_folds(job, job.folds, tables.identity, tables.task)
    if recipe.kind == "features":
        heads = HeadsOnFeatures(job, trained, preprocessing, pixels, compute)
        features = heads.features(readable_rows(tables.manifest))
        return lambda rows, folds, doing: heads.predict(features, rows["position"].to_numpy(), folds)
    models = {fold: Model(compute.place(fuse_batchnorm(module)), task) for fold, (module, task) in trained.items()}
    transforms = eval_transforms(recipe, preprocessing)
    workers = compute.workers(job.machine.workers, pixels.cached is not None)

    def of_rows(rows: pd.DataFrame, folds: list[int], doing: str) -> list[np.ndarray]:
        order = EpochBatches(len(rows), recipe.batch_size, share=compute.ranks.share)
        loader = Loader(ImageDataset(pixels, rows, transforms), order, workers, device.type == "cuda")
        normalize = compute.normalize(preprocessing)
        with_progress = WithProgress(loader, "predict", doing)
        return predict([models[fold] for fold in folds], normalize, with_progress, views_of(job), compute)

    return of_rows


def predict_all(job: Job, tables: RunTables, compute: Compute) -> dict[int, ByKind]:
    """The predictions of each fold: of its out-of-fold rows, and of all test rows if there are any."""
    task, manifest = tables.task, tables.manifest
    of_rows = predictor(job, tables, compute)
    readable = readable_rows(manifest)
    train_split, test_split = (readable[readable["split"] == split] for split in ("train", "test"))
    names = np.array(task.target_names)
    found: dict[int, ByKind] = {}
    for fold in job.folds:
        found[fold] = {}
        if fold == ALL_ROWS:
            continue
        rows = tables.folds[tables.folds["fold"] == fold].merge(train_split[["image_id", "position"]], validate="1:1")
        values = of_rows(rows, [fold], f"out-of-fold rows of fold {fold}")[0]
        found[fold]["oof"] = Predictions(rows["image_id"].to_numpy(str), names, values)
    test_rows = manifest[manifest["split"] == "test"]
    if len(test_rows):
        of_readable = [np.empty((0, len(names)), np.float32)] * len(job.folds)
        if len(test_split):
            of_readable = of_rows(test_split, job.folds, "test rows")
        prior = task.prior(task.targets(tables.folds["label"]))
        for fold, values in zip(job.folds, of_readable, strict=True):
            filled = with_prior(test_rows, values, prior)
            found[fold]["test"] = Predictions(test_rows["image_id"].to_numpy(str), names, filled)
    return found


def run(job: Job) -> dict[int, ByKind]:
    """Writes the predictions of the job's folds and returns them by fold; an empty dict on ranks other than the first.

    Raises FoldwiseError if a fold is not trained, or its weights do not fit the job.
    """
    weights, tables = weights_of(job), open_run(job)
    targets = {fold: predict_files(job.paths, job.run, fold) for fold in job.folds}
    read = {fold: target.hash_inputs() for fold, target in targets.items()}
    began = time.monotonic()
    with computing(job, num_images=0) as compute:
        found = predict_all(job, tables, compute)
    if not compute.ranks.is_first:
        return {}

    views = views_of(job)
    for fold, by_kind in found.items():
        files = {kind: job.fold_folder(fold) / f"{kind}.npz" for kind in by_kind}
        sha256s = {kind: predictions.save(files[kind]) for kind, predictions in by_kind.items()}
        of_fold = {"fold": fold, "weights_sha256": weights[fold], "sha256": sha256s}
        up_to_date = targets[fold].new_record(read[fold], files.values())
        write_record(targets[fold].record, {**of_fold, **up_to_date, "views": views, **provenance()})
    if job.recipe.kind == "features" and not job.call.seed and not job.members.on_all_rows:
        review(job, tables, compute)
    number = count_of(int((tables.manifest["split"] == "test").sum()), "test row")
    done = f"{count_of(len(found), 'fold')} of {job.run.name}: their out-of-fold rows and {number}"
    if job.members.on_all_rows:
        done = f"{fold_name(job.folds[0])} of {job.run.name}: {number}"
    say(
        "predict",
        f"{done}, {count_of(len(views), 'view')} each, in "
        f"{duration(time.monotonic() - began)} -> {shown(job.run_folder)}",
    )
    return found


def main(argv: list[str] | None = None) -> None:
    run(job_of(PARSER.parse_args(argv)))


if __name__ == "__main__":
    run_stage(main)
