"""Stage 6: the folds of a run become one prediction and an honest score.

    make ensemble COMPETITION=dogs-vs-cats RECIPE=resnet18
    python -m pipeline.ensemble --competition dogs-vs-cats --recipe resnet18 --folds 0,1

Reads   manifest.csv, folds.csv, runs/<run>/fold<k>/oof.npz, test.npz and trained.json
Writes  runs/<run>/oof.csv (id, fold, target, p_<class>...), test.csv (id, p_<class>...) and, last, score.json;
        with some of the folds only, files named ...~folds=0,1
"""

from __future__ import annotations

from pipeline.records.console import answer_early, parser_for

PARSER = parser_for(__doc__, run=True, folds=True)
if __name__ == "__main__":  # before the imports that take seconds
    answer_early(PARSER)

from typing import Any

import numpy as np
import pandas as pd

from pipeline.records.competition import load_competition
from pipeline.records.console import make_line, next_step, paths_of, run_stage, say
from pipeline.records.errors import FoldwiseError, count_of
from pipeline.records.files import fingerprint, read_json, read_record, write_record
from pipeline.records.index import Index
from pipeline.records.metrics import METRICS, Metric, averaging_gain, score_interval
from pipeline.records.paths import Paths, parse_folds, partial_name, shown
from pipeline.records.predictions import Predictions
from pipeline.records.provenance import provenance
from pipeline.records.runs import asked_run, check_run, identity
from pipeline.records.tables import (
    class_names,
    one_hot,
    read_folds,
    read_manifest,
    require_same_ids,
    write_csv,
)
from pipeline.records.toml import read_toml
from pipeline.records.up_to_date import Run, ensemble_target, predict_target


def check_predicted(paths: Paths, made_by: Run, chosen: list[int], advice: str) -> None:
    """Raises FoldwiseError for a fold that is not predicted, or whose weights, folds or manifest are others now."""
    index, run = Index(paths), made_by.name
    for fold in chosen:
        target = predict_target(paths, made_by, fold)
        if not target.record.exists():
            raise FoldwiseError(f"fold {fold} of {run} is not predicted; {advice}")
        trained = read_json(target.record.with_name("trained.json"), "weights_sha256")
        record = read_record(target.record)
        if record.get("weights_sha256") != trained["weights_sha256"]:
            raise FoldwiseError(f"fold {fold} of {run} was predicted with other weights than it has now; {advice}")
        if record["read"].get(index.key(paths.manifest)) != index.sha256(paths.manifest):
            raise FoldwiseError(f"the images have changed since fold {fold} of {run} was predicted; {advice}")
        if reason := target.why(index):
            raise FoldwiseError(f"the predictions of fold {fold} of {run} are out of date: {reason}; {advice}")
    index.save()


def load_fold(
    paths: Paths, run: str, fold: int, kind: str, ids: pd.Series, names: list[str], advice: str
) -> np.ndarray:
    """Probabilities (N, C) of one fold in the order of ``ids``; raises FoldwiseError unless ids and classes agree."""
    path = paths.fold(run, fold) / f"{kind}.npz"
    loaded = Predictions.load(path, read_record(path.with_name("predicted.json"))["sha256"].get(kind, ""))
    if list(loaded.class_names) != names:
        raise FoldwiseError(
            f"{shown(path)} holds the classes {', '.join(loaded.class_names)}, not {', '.join(names)}; "
            f"delete {shown(path.parent)} and train that fold again"
        )
    require_same_ids(
        ids,
        loaded.image_ids,
        shown(path),
        f"the images have changed since; delete {shown(path.parent / 'predicted.json')} and {advice}",
    )
    order = pd.Index(loaded.image_ids).get_indexer(ids)
    return loaded.probs[order].astype(np.float64)


def stitch(
    paths: Paths, run: str, chosen: list[int], folds: pd.DataFrame, names: list[str], advice: str
) -> pd.DataFrame:
    """Out-of-fold table (id, fold, target, p_<class>...) in the order of folds.csv: each row of the chosen folds once,
    predicted by the model that did not see it."""
    parts = []
    for fold in chosen:
        rows = folds[folds["fold"] == fold]
        probs = load_fold(paths, run, fold, "oof", rows["image_id"], names, advice)
        frame = pd.DataFrame(probs, index=rows.index, columns=[f"p_{name}" for name in names])
        frame.insert(0, "id", rows["image_id"])
        frame.insert(1, "fold", fold)
        frame.insert(2, "target", rows["label"])
        parts.append(frame)
    return pd.concat(parts).sort_index()


def summarize(
    oof: pd.DataFrame, units: pd.Series, names: list[str], metric: Metric, test_probs: list[np.ndarray]
) -> dict[str, Any]:
    """The score of the out-of-fold rows, and what it lets expect of the test rows (see metrics.py).

    units: the group of each row of ``oof``, or its id where it stands alone.
    """
    labels = one_hot(oof["target"], names).argmax(axis=1)
    probs = oof[[f"p_{name}" for name in names]].to_numpy()
    in_fold = [(oof["fold"] == fold).to_numpy() for fold in sorted(set(oof["fold"]))]
    by_fold = [metric(labels[rows], probs[rows]) for rows in in_fold]
    pooled = metric(labels, probs)
    new_rows = len(test_probs[0]) if test_probs else len(oof)
    interval = score_interval(metric, labels, probs, pd.factorize(units)[0], new_rows)
    gain = averaging_gain(metric, test_probs, pooled)
    return {
        "cv_score": pooled,
        "accuracy": METRICS["accuracy"](labels, probs),
        "rows": len(oof),
        "fold_scores": by_fold,
        "fold_mean": float(np.mean(by_fold)),
        "fold_sd": float(np.std(by_fold, ddof=1)) if len(by_fold) > 1 else None,
        "averaging_gain": gain,
        "expected_score": metric.clip(pooled + gain),
        "interval_95": [metric.clip(bound + gain) for bound in interval],
        "interval_rows": new_rows,
    }


def report(score: dict[str, Any], test_images: int) -> None:
    """Prints the score of the run and what to expect of the submission."""
    by_fold = ", ".join(f"{value:.4f}" for value in score["fold_scores"])
    spread = ""
    if score["fold_sd"] is not None:
        spread = f"; mean {score['fold_mean']:.4f} ± {score['fold_sd']:.4f}"
    say(
        "ensemble",
        f"out-of-fold {score['metric']} {score['cv_score']:.4f} on {count_of(score['rows'], 'image')} "
        f"(by fold {by_fold}{spread})",
    )
    accuracy = f"; out-of-fold accuracy {score['accuracy']:.4f}" if score["metric"] != "accuracy" else ""
    say("ensemble", f"{score['metric']} {score['train_score']:.4f} on images that the models were trained on{accuracy}")
    low, high = score["interval_95"]
    if not test_images:
        say("ensemble", f"95 % interval for as many unseen images: {low:.4f} to {high:.4f}")
        return
    if len(score["folds"]) > 1:
        say("ensemble", f"averaging {count_of(len(score['folds']), 'fold')} is worth {score['averaging_gain']:+.4f}")
    interval = f"95 % interval {low:.4f} to {high:.4f}"
    say("ensemble", f"expect {score['expected_score']:.4f} on the {test_images:,} test images, {interval}")


def main() -> None:
    args = PARSER.parse_args()
    paths = paths_of(args)
    competition = load_competition(paths)
    run, recipe = asked_run(args, competition)
    chosen = parse_folds(args.folds, competition.folds.n)
    manifest = read_manifest(paths.manifest)
    folds = read_folds(paths.folds, competition.folds.n, manifest)
    names = class_names(folds, competition.classes)
    check_run(paths, run, identity(recipe, competition, paths, names, manifest))

    advice = f"type: {make_line('predict', args)}"
    made_by = Run(run, args.recipe or competition.recipe, args.set)
    target = ensemble_target(paths, read_toml(paths.toml), made_by, chosen, competition.folds.n)
    read = target.read_now()
    check_predicted(paths, made_by, chosen, advice)
    metric = METRICS[competition.metric]
    oof = stitch(paths, run, chosen, folds, names, advice)
    test_ids = manifest.loc[manifest["split"] == "test", "image_id"]
    test_probs = []
    if len(test_ids):
        test_probs = [load_fold(paths, run, fold, "test", test_ids, names, advice) for fold in chosen]
    rows = folds.loc[oof.index]
    units = rows["group"].where(rows["group"] != "", rows["image_id"])
    trained = [read_json(paths.fold(run, fold) / "trained.json", "train_score", "seconds", "beside") for fold in chosen]
    score = {
        "run": run,
        "folds": chosen,
        "partial": len(chosen) < competition.folds.n,
        "metric": competition.metric,
        **summarize(oof, units, names, metric, test_probs),
        "train_score": float(np.mean([fold["train_score"] for fold in trained])),
        "training_seconds": sum(fold["seconds"] / fold["beside"] for fold in trained),
        "device": trained[0]["device"],
        "folds_sha256": fingerprint(paths.folds),
        "manifest_sha256": fingerprint(paths.manifest),
    }

    oof_path, test_path = (
        paths.run(run) / partial_name(name, chosen, competition.folds.n, suffix)
        for name, suffix in (("oof", ".csv"), ("test", ".csv"))
    )
    write_csv(oof_path, oof)
    test_sha256 = None
    if test_probs:
        test = pd.DataFrame(np.mean(test_probs, axis=0), columns=[f"p_{name}" for name in names])
        test.insert(0, "id", test_ids.to_numpy())
        write_csv(test_path, test)
        test_sha256 = fingerprint(test_path)
    made = target.written(read, [oof_path, *([test_path] if test_probs else [])])
    write_record(target.record, {**score, "test_sha256": test_sha256, **made, **provenance()})
    report(score, len(test_ids))
    if test_probs:
        say(
            "ensemble",
            f"{count_of(len(chosen), 'fold')} averaged -> {shown(test_path)}{next_step('submit', args)}",
        )
    else:
        say("ensemble", f"no test images, so the score is the end -> {shown(oof_path)}")


if __name__ == "__main__":
    run_stage(main)
