"""Stage 6: combine the predictions of the folds of a run, and score them.

    make ensemble COMPETITION=dogs-vs-cats RECIPE=resnet18
    python -m pipeline.ensemble --competition dogs-vs-cats --recipe resnet18 --folds 0,1

Reads   manifest.csv, task.json, folds.csv, runs/<run>/fold<k>/oof.npz, test.npz and trained.json
Writes  runs/<run>/oof.npz and test.npz (image_ids, target_names, predictions); oof.csv (id, fold, target,
        p_<class>...) and test.csv (id, p_<class>...), the same for people; and, last, score.json, with the thresholds
        or cut points that were learnt for metrics of decisions.
        If only some folds are used, the file names end in ~folds=0,1; with SEEDS=3, in ~seeds=3. FOLD=all has
        runs/<run>/all/ with test.npz, test.csv and a score.json that names the run whose folds speak for it.
        ledger.csv gets a row
"""

from __future__ import annotations

from pipeline.records.command_line import parser_for
from pipeline.system.console import answer_early

PARSER = parser_for(__doc__, "run", "folds", "seeds")
if __name__ == "__main__":  # before the imports that take seconds
    answer_early(PARSER)

from dataclasses import replace
from typing import Any

import numpy as np

from pipeline.records.combined import (
    Prediction,
    check_predicted,
    members_of_test,
    stitch,
    table_of_oof,
    table_of_test,
    write_prediction,
)
from pipeline.records.job import Job, job_of
from pipeline.records.ledger import add_prediction
from pipeline.records.names import ALL_ROWS
from pipeline.records.runs import RunTables, check_run, identity, open_run
from pipeline.records.score_words import report_score, report_twin
from pipeline.records.scoring import summarize, truth_and_values
from pipeline.records.task import metric_sha256
from pipeline.records.up_to_date import ensemble_files, predict_files
from pipeline.system.console import run_stage, say
from pipeline.system.files import fingerprint, read_json, read_record, write_record
from pipeline.system.index import Index
from pipeline.system.places import shown
from pipeline.system.provenance import provenance


def train_score_of(trained: list[dict[str, Any]], metric: str, sha256: str | None) -> float | None:
    """The mean train score of the folds; None if one was trained before competition.toml named another metric.

    trained: the content of each fold's trained.json
    sha256: of the file with the user's own metric, None for other metrics
    """
    if any((fold.get("metric", metric), fold.get("metric_sha256")) != (metric, sha256) for fold in trained):
        return None
    return float(np.mean([fold["train_score"] for fold in trained]))


def report(job: Job, score: dict[str, Any], test_images: int) -> None:
    """Prints the score, what to expect of the submission, and what was made."""
    files = job.predictions
    if job.members.on_all_rows:
        report_twin(score, replace(job.call, folds="").make_line("ensemble"))
    else:
        report_score(score, test_images)
    if not test_images:
        made = files.record if job.members.on_all_rows else files.oof
        say("ensemble", f"no test images, so this is the last stage -> {shown(made)}")
        return
    averaged = " averaged" if len(job.folds) * score["seeds"] > 1 else ""
    say("ensemble", f"{job.members.described}{averaged} -> {shown(files.test)}{job.call.next_step('submit')}")


def combine(job: Job, tables: RunTables) -> Prediction:
    """Averages the predictions of all seeds for each fold, and then the test predictions of all folds."""
    task, parts = tables.task, job.of_seeds
    by_seed = [stitch(part, tables) for part in parts]
    rows, predictions = by_seed[0][0], np.mean([of_seed for _, of_seed in by_seed], axis=0)
    members = members_of_test(job, tables)
    score = summarize(rows, tables, predictions, members)
    if len(parts) > 1:
        if all(np.array_equal(predictions, of_seed) for _, of_seed in by_seed):
            say("ensemble", "note: all seeds predict the same, so more than one is of no use with this recipe")
        of_seeds = [tables.metric(*truth_and_values(rows, tables, of_seed)) for _, of_seed in by_seed]
        score = {**score, "seed_scores": of_seeds}
    return Prediction(table_of_oof(task, rows, predictions), table_of_test(task, members, tables.test_ids), score)


def of_all_rows(job: Job, tables: RunTables) -> Prediction:
    """Averages the test predictions of all seeds of a training on all rows.

    No row is left to score them. The out-of-fold score of the same run, its cross-validated twin, speaks for them: what
    it says of a single fold, since the folds are not averaged here.
    """
    of_twin = score_of_twin(job)
    score = {
        "twin": job.members.twin.name(job.run.name) if of_twin else None,
        "cv_score": of_twin.get("cv_score"),
        "expected_score": of_twin.get("cv_score"),
        "interval_95": of_twin.get("interval_95_of_one"),
        "decided_by": of_twin.get("decided_by"),
        "steps": of_twin.get("steps_of_one", []),
        "rule": of_twin["rule"] if of_twin else tables.task.default_rule(tables.metric),
    }
    return Prediction(None, table_of_test(tables.task, members_of_test(job, tables), tables.test_ids), score)


def score_of_twin(job: Job) -> dict[str, Any]:
    """The score.json of the folds of a run, with the seeds of the job; {} if it is missing or out of date."""
    twin = ensemble_files(job.paths, job.paths.facts(), job.run, job.members.twin)
    if twin.reason_to_run(Index(job.paths.home)):
        return {}
    score = read_record(twin.record)
    return score if "interval_95_of_one" in score else {}  # older versions did not write it


def refresh_twin(job: Job) -> None:
    """Combines the folds of a run whose training on all rows is combined, if all are predicted and it is not done."""
    twin, index = replace(job, call=replace(job.call, folds=""), folds=[*job.members.twin.folds]), Index(job.paths.home)
    targets = [predict_files(part.paths, part.run, fold) for part in twin.of_seeds for fold in twin.folds]
    if not score_of_twin(job) and not any(target.reason_to_run(index) for target in targets):
        run(twin)


def run(job: Job) -> Prediction:
    """Combines the folds and seeds of the job, and scores them."""
    tables, members = open_run(job), job.members
    if members.on_all_rows:
        refresh_twin(job)
    target = ensemble_files(job.paths, job.paths.facts(), job.run, members)
    read = target.hash_inputs()
    for part in job.of_seeds:
        check_run(part.paths, part.run.name, identity(part, tables.task, tables.manifest))
        check_predicted(part, f"type: {job.call.make_line('predict')}")
    prediction = (of_all_rows if members.on_all_rows else combine)(job, tables)

    folders = [part.fold_folder(fold) for part in job.of_seeds for fold in job.folds]
    trained = [read_json(folder / "trained.json", "train_score", "seconds", "beside") for folder in folders]
    sha256_of_metric = metric_sha256(job.competition, job.paths)
    score = {
        "run": job.run.name,
        "folds": "all rows" if members.on_all_rows else job.folds,
        "seeds": members.seeds,
        "partial": members.partial,
        "metric": tables.metric.name,
        "metric_sha256": sha256_of_metric,
        **prediction.score,
        "train_score": train_score_of(trained, tables.metric.name, sha256_of_metric),
        "training_seconds": sum(fold["seconds"] / fold["beside"] for fold in trained),
        "device": trained[0]["device"],
        "folds_sha256": fingerprint(job.paths.folds),
        "manifest_sha256": fingerprint(job.paths.manifest),
    }
    written = job.fold_folder(ALL_ROWS) / "test.npz" if members.on_all_rows else None  # by the predict stage
    sha256, made = write_prediction(job.predictions, tables.task, prediction, written)
    score = {**score, "sha256": sha256, **target.new_record(read, made), **provenance()}
    add_prediction(job.paths, "run", job.predictions.name, score, job.num_folds)
    write_record(target.record, score)
    report(job, score, len(tables.test_ids))
    return replace(prediction, score=score)


def main(argv: list[str] | None = None) -> None:
    run(job_of(PARSER.parse_args(argv)))


if __name__ == "__main__":
    run_stage(main)
