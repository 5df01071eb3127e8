"""Stage 5: predictions of trained folds, each for the rows it did not see and for the test images.

    make predict
    python -m pipeline.predict --competition dogs-vs-cats --recipe resnet18 --folds 0,1

Reads   manifest.csv, folds.csv, runs/<run>/fold<k>/weights.safetensors and the images
Writes  runs/<run>/fold<k>/oof.npz and test.npz (image_ids, class_names, probs), and, last, predicted.json

Both go through one function with the same views, so that what is tuned on the one holds for the other. The test
images are read once for all folds.
"""

from __future__ import annotations

from pipeline.records.console import answer_early, parser_for

PARSER = parser_for(__doc__, run=True, folds=True, device=True)
if __name__ == "__main__":  # before the imports that take seconds
    answer_early(PARSER, "predict")

import time

import numpy as np
import pandas as pd

from pipeline.learner.batches import Normalize
from pipeline.learner.device import Arrangement, Precision, choose_workers
from pipeline.learner.inference import folded, predict_probs, tta_views
from pipeline.learner.ranks import joined
from pipeline.learner.trained import load_folds
from pipeline.pixels.augment import eval_transforms
from pipeline.pixels.cache import open_pixels, readable_rows
from pipeline.pixels.dataset import EpochBatches, ImageDataset, Loader, Watched
from pipeline.records.competition import load_competition
from pipeline.records.console import duration, make_line, paths_of, run_stage, say
from pipeline.records.errors import FoldwiseError, count_of
from pipeline.records.files import read_json, write_record
from pipeline.records.paths import parse_folds, shown
from pipeline.records.predictions import Predictions
from pipeline.records.provenance import provenance
from pipeline.records.runs import asked_run, check_run, identity
from pipeline.records.tables import class_names, one_hot, read_folds, read_manifest
from pipeline.records.up_to_date import Run, predict_target


def with_prior(rows: pd.DataFrame, probs: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """Probabilities (N, C) of all test rows: those of the readable ones, and the class prior for the others."""
    full = np.tile(prior.astype(np.float32), (len(rows), 1))
    full[(rows["width"] > 0).to_numpy()] = probs
    return full


def main() -> None:
    args = PARSER.parse_args()
    paths = paths_of(args)
    competition = load_competition(paths)
    run, recipe = asked_run(args, competition)
    chosen = parse_folds(args.folds, competition.folds.n)
    weights = {}
    for fold in chosen:
        record = paths.fold(run, fold) / "trained.json"
        if not record.exists():
            raise FoldwiseError(f"fold {fold} of {run} is not trained; type: {make_line('train', args)}")
        weights[fold] = read_json(record, "weights_sha256")["weights_sha256"]
    manifest = read_manifest(paths.manifest)
    folds = read_folds(paths.folds, competition.folds.n, manifest)
    names = class_names(folds, competition.classes)
    wanted = identity(recipe, competition, paths, names, manifest)
    check_run(paths, run, wanted)

    made_by = Run(run, args.recipe or competition.recipe, args.set)
    targets = {fold: predict_target(paths, made_by, fold) for fold in chosen}
    read = {fold: target.read_now() for fold, target in targets.items()}
    began = time.monotonic()
    with joined(args.device) as (ranks, device):
        readable = readable_rows(manifest)
        pixels = open_pixels(paths, readable, recipe.cache_side, "predict")
        arrangement = Arrangement.chosen(recipe, device, args.threads, 0, args.deterministic, ranks.size, ranks.beside)
        arrangement.set_up()
        workers = choose_workers(args.workers, device, pixels.cached is not None, arrangement.threads)
        precision = Precision(arrangement, device)
        views = tta_views(competition.symmetries if recipe.tta else [])

        trained, preprocessing = load_folds(paths, run, chosen, recipe, wanted)
        modules = {fold: arrangement.place(folded(module), device) for fold, module in trained.items()}
        normalize = Normalize(preprocessing, arrangement.channels_last).to(device)
        whole = eval_transforms(recipe, preprocessing)

        def probabilities(rows: pd.DataFrame, of_folds: list[int], doing: str) -> list[np.ndarray]:
            """(N, C) of each fold's module, from one pass over the rows' pictures."""
            dataset = ImageDataset(pixels, rows, whole)
            order = EpochBatches(len(rows), recipe.batch_size, share=ranks.share)
            loader = Watched(Loader(dataset, order, workers, device.type == "cuda"), "predict", doing)
            return predict_probs([modules[fold] for fold in of_folds], normalize, loader, views, precision, ranks)

        train_split, test_split = (readable[readable["split"] == split] for split in ("train", "test"))
        oof = {}
        for fold in chosen:
            rows = folds[folds["fold"] == fold].merge(train_split[["image_id", "position"]], validate="1:1")
            oof[fold] = rows["image_id"], probabilities(rows, [fold], f"out-of-fold rows of fold {fold}")[0]
        probs_of_test = [np.empty((0, len(names)), np.float32)] * len(chosen)
        if len(test_split):
            probs_of_test = probabilities(test_split, chosen, "test rows")
    if not ranks.is_first:
        return

    test_rows = manifest[manifest["split"] == "test"]
    prior = one_hot(folds["label"], names).mean(axis=0)
    about_all = {"views": views, **provenance()}
    for fold, probs_of_readable in zip(chosen, probs_of_test, strict=True):
        of_kind = {"oof": oof[fold]}
        if len(test_rows):
            of_kind["test"] = test_rows["image_id"], with_prior(test_rows, probs_of_readable, prior)
        files = {kind: paths.fold(run, fold) / f"{kind}.npz" for kind in of_kind}
        sha256s = {
            kind: Predictions(ids.to_numpy(str), np.array(names), probs).save(files[kind])
            for kind, (ids, probs) in of_kind.items()
        }
        of_fold = {"fold": fold, "weights_sha256": weights[fold], "sha256": sha256s}
        up_to_date = targets[fold].written(read[fold], files.values())
        write_record(targets[fold].record, {**of_fold, **up_to_date, **about_all})
    say(
        "predict",
        f"{count_of(len(chosen), 'fold')} of {run}: their out-of-fold rows and {count_of(len(test_rows), 'test row')}, "
        f"{count_of(len(views), 'view')} each, in {duration(time.monotonic() - began)} -> {shown(paths.run(run))}",
    )


if __name__ == "__main__":
    run_stage(main)
