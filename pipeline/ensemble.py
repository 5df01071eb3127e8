"""Stage 6: combine the predictions of the folds of a run, and score them.

    make ensemble COMPETITION=dogs-vs-cats RECIPE=resnet18
    python -m pipeline.ensemble --competition dogs-vs-cats --recipe resnet18 --folds 0,1

Reads   manifest.csv, task.json, folds.csv, runs/<run>/fold<k>/oof.npz, test.npz and trained.json
Writes  runs/<run>/oof.npz and test.npz (image_ids, target_names, predictions); oof.csv (id, fold, target,
        p_<class>...) and test.csv (id, p_<class>...), the same for people; and, last, score.json, with the thresholds
        or cut points that were learnt for metrics of decisions.
        If only some folds are used, the file names end in ~folds=0,1
"""

from __future__ import annotations

from pipeline.records.command_line import parser_for
from pipeline.system.console import answer_early

PARSER = parser_for(__doc__, run=True, folds=True)
if __name__ == "__main__":  # before the imports that take seconds
    answer_early(PARSER)

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pipeline.records.job import Job, job_of
from pipeline.records.predictions import Predictions
from pipeline.records.runs import RunTables, open_run
from pipeline.records.tables import write_csv
from pipeline.records.task import metric_sha256
from pipeline.records.up_to_date import ensemble_files, predict_files
from pipeline.system.console import run_stage, say
from pipeline.system.errors import StaleError, count_of
from pipeline.system.files import fingerprint, read_json, read_record, write_record
from pipeline.system.index import Index
from pipeline.system.places import shown
from pipeline.system.provenance import provenance
from pipeline.tasks.decisions import learn_rule, nested_values, parts_of
from pipeline.tasks.intervals import averaging_gain, score_interval


@dataclass(frozen=True)
class Ensemble:
    """The combined predictions of the folds of a run, and their score.

    oof: id, fold, target, p_<class>...; a row for each train image of the folds, in the order of folds.csv
    test: id, p_<class>...; a row for each test image, in the order of the manifest; None without test images
    score: the content of score.json
    """

    oof: pd.DataFrame
    test: pd.DataFrame | None
    score: dict[str, Any]


def check_predicted(job: Job, advice: str) -> None:
    """Raises FoldwiseError if a fold has no predictions, or was predicted from other weights, folds or images."""
    index, run = Index(job.paths.home), job.run.name
    for fold in job.folds:
        target = predict_files(job.paths, job.run, fold)
        if not target.record.exists():
            raise StaleError(f"fold {fold} of {run} has no predictions; {advice}")
        trained = read_json(target.record.with_name("trained.json"), "weights_sha256")
        record = read_record(target.record)
        if record.get("weights_sha256") != trained["weights_sha256"]:
            raise StaleError(f"fold {fold} of {run} was predicted with other weights than it has now; {advice}")
        if record["read"].get(index.key(job.paths.manifest)) != index.sha256(job.paths.manifest):
            raise StaleError(f"the images have changed since fold {fold} of {run} was predicted; {advice}")
        if reason := target.reason_to_run(index):
            raise StaleError(f"the predictions of fold {fold} of {run} are out of date: {reason}; {advice}")
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


def stitch(job: Job, tables: RunTables) -> tuple[pd.DataFrame, np.ndarray]:
    """The rows of folds.csv that are in the job's folds, and their out-of-fold predictions (N, C).

    Each row is predicted once, by the model that was not trained on it.
    """
    rows = tables.folds[tables.folds["fold"].isin(job.folds)]
    predictions = np.empty((len(rows), len(tables.task.target_names)))
    for fold in job.folds:
        of_fold = (rows["fold"] == fold).to_numpy()
        predictions[of_fold] = load_fold(job, fold, "oof", rows.loc[of_fold, "image_id"], tables.task.target_names)
    return rows, predictions


def summarize(
    rows: pd.DataFrame, tables: RunTables, predictions: np.ndarray, members: list[np.ndarray]
) -> dict[str, Any]:
    """The score of the out-of-fold rows, how to decide, and the score to expect on the test rows.

    Thresholds and cut points are learnt from all rows for the test images, but each row is scored with those that were
    learnt from other folds.

    rows: image_id, label, group and fold of N rows; predictions (N, C); members: each fold's predictions (M, C) of the
    test rows, an empty list without test images
    """
    task, metric = tables.task, tables.metric
    targets = task.targets(rows["label"])
    truth = task.compared(metric, task.truth(targets))
    named = rows["group"].where(rows["group"] != "", rows["image_id"])
    units = pd.factorize(named)[0]
    folds = rows["fold"].to_numpy()
    how, rule = learn_rule(task, metric, targets, predictions, parts_of(folds, units))
    values = nested_values(task, metric, targets, predictions, folds, units)

    by_fold = [metric(truth[of_fold], values[of_fold]) for of_fold in each_fold(rows["fold"])]
    pooled = metric(truth, values)
    new_rows = len(members[0]) if members else len(rows)
    interval = score_interval(metric, truth, values, units, new_rows)
    gain = averaging_gain(task, metric, members, pooled, rule)
    second = {}
    if task.second_metric:
        other = task.metric(task.second_metric)
        decided = (
            values if metric.decided and other.decided else task.values(other, predictions, task.default_rule(other))
        )
        second = {task.second_metric: other(task.truth(targets), decided)}
    return {
        "cv_score": pooled,
        **second,
        "rows": len(rows),
        "fold_scores": by_fold,
        "fold_mean": float(np.mean(by_fold)),
        "fold_sd": float(np.std(by_fold, ddof=1)) if len(by_fold) > 1 else None,
        "averaging_gain": gain,
        "expected_score": metric.clip(pooled + gain),
        "interval_95": [metric.clip(bound + gain) for bound in interval],
        "interval_rows": new_rows,
        "all_alike": bool((values == values[0]).all()),
        "decided_by": how,
        "rule": rule,
    }


def train_score_of(trained: list[dict[str, Any]], metric: str, sha256: str | None) -> float | None:
    """The mean train score of the folds; None if one was trained before competition.toml named another metric.

    trained: the content of each fold's trained.json
    sha256: of the file with the user's own metric, None for other metrics
    """
    if any((fold.get("metric", metric), fold.get("metric_sha256")) != (metric, sha256) for fold in trained):
        return None
    return float(np.mean([fold["train_score"] for fold in trained]))


def each_fold(folds: pd.Series) -> list[np.ndarray]:
    """A mask (N,) bool for each fold number that occurs, in ascending order."""
    return [(folds == fold).to_numpy() for fold in sorted(set(folds))]


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
    more = []
    if score["train_score"] is not None:
        more.append(f"{score['metric']} {score['train_score']:.4f} on images that the models were trained on")
    if "accuracy" in score and score["metric"] != "accuracy":
        more.append(f"out-of-fold accuracy {score['accuracy']:.4f}")
    if score["decided_by"]:
        learnt = [f"{value:.3g}" for value in next((v for v in score["rule"].values() if isinstance(v, list)), [])]
        learnt = learnt[:1] if len({*learnt}) == 1 else learnt
        values = f" ({', '.join(learnt[:6])}{', ...' if len(learnt) > 6 else ''})" if learnt else ""
        nested = "; what was learnt for that was scored on other folds" if len(score["fold_scores"]) > 1 else ""
        more.append(f"decided by {score['decided_by']}{values}{nested}")
    if more:
        say("ensemble", "; ".join(more))
    if score["all_alike"]:
        say("ensemble", "note: all out-of-fold rows are predicted alike, so the score and its interval say little")
    low, high = score["interval_95"]
    if not test_images:
        say("ensemble", f"95 % interval for the same number of unseen images: {low:.4f} to {high:.4f}")
        return
    if len(score["folds"]) > 1:
        say(
            "ensemble",
            f"averaging {count_of(len(score['folds']), 'fold')} should change the score by "
            f"{score['averaging_gain']:+.4f}",
        )
    interval = f"95 % interval {low:.4f} to {high:.4f}"
    say("ensemble", f"expect {score['expected_score']:.4f} on the {test_images:,} test images, {interval}")


def write_prediction(job: Job, tables: RunTables, ensemble: Ensemble) -> dict[str, str]:
    """Writes the predictions as .npz (float32) and as CSV; returns the sha256 of each .npz file by kind."""
    files, task = job.predictions, tables.task
    kinds = [("oof", ensemble.oof, files.oof, files.oof_table)]
    if ensemble.test is not None:
        kinds.append(("test", ensemble.test, files.test, files.test_table))
    sha256 = {}
    for kind, table, file, csv in kinds:
        values = table[task.columns].to_numpy(np.float32)
        sha256[kind] = Predictions(table["id"].to_numpy(str), np.array(task.target_names), values).save(file)
        write_csv(csv, table)
    return sha256


def run(job: Job) -> Ensemble:
    """Combines the folds of the job and scores them."""
    tables = open_run(job)
    task, advice = tables.task, f"type: {job.call.make_line('predict')}"
    target = ensemble_files(job.paths, job.paths.facts(), job.run, job.folds, job.num_folds)
    read = target.hash_inputs()
    check_predicted(job, advice)

    rows, predictions = stitch(job, tables)
    test_ids = tables.manifest.loc[tables.manifest["split"] == "test", "image_id"]
    members = [load_fold(job, fold, "test", test_ids, task.target_names) for fold in job.folds if len(test_ids)]
    trained = [
        read_json(job.fold_folder(fold) / "trained.json", "train_score", "seconds", "beside") for fold in job.folds
    ]
    sha256_of_metric = metric_sha256(job.competition, job.paths)
    score = {
        "run": job.run.name,
        "folds": job.folds,
        "partial": len(job.folds) < job.num_folds,
        "metric": tables.metric.name,
        "metric_sha256": sha256_of_metric,
        **summarize(rows, tables, predictions, members),
        "train_score": train_score_of(trained, tables.metric.name, sha256_of_metric),
        "training_seconds": sum(fold["seconds"] / fold["beside"] for fold in trained),
        "device": trained[0]["device"],
        "folds_sha256": fingerprint(job.paths.folds),
        "manifest_sha256": fingerprint(job.paths.manifest),
    }
    oof = task.table(predictions)
    for place, (name, column) in enumerate({"id": "image_id", "fold": "fold", "target": "label"}.items()):
        oof.insert(place, name, rows[column].to_numpy())
    test = None
    if members:
        test = task.table(np.mean(members, axis=0))
        test.insert(0, "id", test_ids.to_numpy())
    ensemble = Ensemble(oof, test, score)

    sha256, files = write_prediction(job, tables, ensemble), job.predictions
    made = [files.oof, files.oof_table, *([files.test, files.test_table] if members else [])]
    write_record(target.record, {**score, "sha256": sha256, **target.new_record(read, made), **provenance()})
    report(score, len(test_ids))
    if members:
        done = f"{count_of(len(job.folds), 'fold')} averaged -> {shown(files.test)}{job.call.next_step('submit')}"
    else:
        done = f"no test images, so this is the last stage -> {shown(files.oof)}"
    say("ensemble", done)
    return ensemble


def main(argv: list[str] | None = None) -> None:
    run(job_of(PARSER.parse_args(argv)))


if __name__ == "__main__":
    run_stage(main)
