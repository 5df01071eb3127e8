"""Stage 5: predictions of one trained fold, for the rows it did not see and for the test images.

    make predict FOLD=0
    python -m pipeline.predict --competition dogs-vs-cats --recipe resnet18 --fold 0

Reads   manifest.csv, folds.csv, runs/<run>/fold<k>/weights.safetensors and the images
Writes  runs/<run>/fold<k>/oof.npz and test.npz (image_ids, class_names, probs), and, last, predicted.json

Both go through one function with the same views, so that what is tuned on the one holds for the other.
"""

from __future__ import annotations

import time

import numpy as np
import pandas as pd

from pipeline.learner.batches import Normalize
from pipeline.learner.checkpoint import load_about, load_weights
from pipeline.learner.device import Precision, choose_workers, find_device, share_cores
from pipeline.learner.inference import predict_probs, tta_views
from pipeline.learner.models import build_model
from pipeline.pixels.augment import eval_transform
from pipeline.pixels.cache import open_pixels, readable_rows
from pipeline.pixels.dataset import ImageDataset, Loader
from pipeline.records.competition import load_competition
from pipeline.records.console import duration, make_line, parser_for, paths_of, run_stage, say
from pipeline.records.errors import FoldwiseError, count_of
from pipeline.records.files import fingerprint, write_json
from pipeline.records.paths import parse_folds, shown
from pipeline.records.predictions import Predictions
from pipeline.records.provenance import provenance
from pipeline.records.runs import asked_run, check_run, identity
from pipeline.records.tables import class_names, one_hot, read_folds, read_manifest


def with_prior(rows: pd.DataFrame, probs: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """Probabilities (N, C) of all test rows: those of the readable ones, and the class prior for the others."""
    full = np.tile(prior.astype(np.float32), (len(rows), 1))
    full[(rows["width"] > 0).to_numpy()] = probs
    return full


def main() -> None:
    args = parser_for(__doc__, run=True, fold=True).parse_args()
    paths = paths_of(args)
    competition = load_competition(paths)
    run, recipe = asked_run(args, competition)
    fold = parse_folds(str(args.fold), competition.folds.n)[0]
    folder = paths.fold(run, fold)
    if not (folder / "trained.json").exists():
        raise FoldwiseError(f"fold {fold} of {run} is not trained; type: {make_line('train', args)} FOLD={fold}")
    manifest, folds = read_manifest(paths.manifest), read_folds(paths.folds, competition.folds.n)
    names = class_names(folds, competition.classes)
    check_run(paths, run, identity(recipe, competition, paths, names, manifest))

    began = time.monotonic()
    device = find_device(args.device)
    share_cores(args.jobs)
    network = build_model(recipe.model, len(names), **recipe.model_args)
    load_weights(folder / "weights.safetensors", network.module)
    module = network.module.to(device)
    about = load_about(folder / "weights.safetensors")
    normalize = Normalize(tuple(about["mean"]), tuple(about["std"])).to(device)
    views = tta_views(competition.symmetries if recipe.tta else [])

    readable = readable_rows(manifest)
    pixels = open_pixels(paths, readable, recipe.cache_side, "predict")

    def probabilities(rows: pd.DataFrame) -> np.ndarray:
        dataset = ImageDataset(pixels, rows, eval_transform(recipe))
        workers = choose_workers(args.workers, device, args.jobs)
        loader = Loader(dataset, recipe.batch_size, workers, device.type == "cuda")
        return predict_probs(module, normalize, loader, views, Precision(recipe.amp, device))

    in_fold = folds[folds["fold"] == fold]
    val_rows = in_fold.merge(
        readable[readable["split"] == "train"][["image_id", "position"]], on="image_id", validate="1:1"
    )
    Predictions(val_rows["image_id"].to_numpy(str), np.array(names), probabilities(val_rows)).save(folder / "oof.npz")
    test_rows = manifest[manifest["split"] == "test"]
    if len(test_rows):
        prior = one_hot(folds["label"], names).mean(axis=0)
        readable_test = readable[readable["split"] == "test"]
        probs = probabilities(readable_test) if len(readable_test) else np.empty((0, len(names)), np.float32)
        Predictions(test_rows["image_id"].to_numpy(str), np.array(names), with_prior(test_rows, probs, prior)).save(
            folder / "test.npz"
        )
    write_json(
        folder / "predicted.json",
        {"fold": fold, "views": views, "manifest_sha256": fingerprint(paths.manifest), **provenance()},
    )
    say(
        "predict",
        f"fold {fold} of {run}: {count_of(len(val_rows), 'out-of-fold row')}, {count_of(len(test_rows), 'test row')}, "
        f"{count_of(len(views), 'view')} each, in {duration(time.monotonic() - began)} -> {shown(folder)}",
    )


if __name__ == "__main__":
    run_stage(main)
