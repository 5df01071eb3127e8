"""Stage 7: turn the prediction of a run into the file to upload, checked against the sample submission.

    make submit COMPETITION=dogs-vs-cats RECIPE=resnet18
    make submit COMPETITION=dogs-vs-cats BLEND=lenet+resnet18
    python -m pipeline.submit --competition dogs-vs-cats --recipe resnet18 --folds 0

Reads   manifest.csv, task.json, test.npz and score.json of runs/<run>/ or blends/<name>/, the sample submission, and
        the test labels if they are known
Writes  submissions/<competition>/<run>.csv, and <run>.json, which records where it came from. An older file with other
        content is kept as <run>.<fingerprint>.csv, since it may have been uploaded. ledger.csv gets a row
"""

from __future__ import annotations

from pipeline.records.command_line import parser_for
from pipeline.system.console import answer_early

PARSER = parser_for(__doc__, "run", "folds", "seeds", "blend")
if __name__ == "__main__":  # before the imports that take seconds
    answer_early(PARSER)

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from pipeline.records.job import Job, job_of
from pipeline.records.known_labels import read_known_labels, say_faults
from pipeline.records.ledger import add_row
from pipeline.records.predictions import Predictions
from pipeline.records.runs import made_of
from pipeline.records.score_words import known_of
from pipeline.records.submission import check_sample, format_submission, keep_older, read_sample, submission_text
from pipeline.records.tables import read_manifest
from pipeline.records.task import metric_of, read_task
from pipeline.records.up_to_date import submit_files
from pipeline.system.console import run_stage, say
from pipeline.system.errors import FoldwiseError, StaleError, count_of
from pipeline.system.files import fingerprint, read_record, write_json, write_text
from pipeline.system.places import shown
from pipeline.system.provenance import provenance
from pipeline.tasks.postprocessing import apply_steps
from pipeline.tasks.task import Rule, Task


class KnownScore(NamedTuple):
    """The score on known test labels, and the number of test images that have one."""

    value: float
    number: int


def load_test(job: Job, score: dict[str, Any]) -> tuple[pd.Series, np.ndarray, Task]:
    """Ids (N,) of the test rows, in the order of the manifest, their predictions (N, C) and the task."""
    files, again = job.predictions, f"type: {job.call.make_line(job.call.combined_by)}"
    damaged = f"delete {shown(files.record)} and {again}"
    loaded = Predictions.load(files.test, score.get("sha256", {}).get("test", ""), damaged)
    task = read_task(job.paths, job.competition)
    manifest = read_manifest(job.paths.manifest)
    ids = manifest.loc[manifest["split"] == "test", "image_id"]
    return ids, loaded.aligned(ids, task.target_names, shown(files.test), again), task


def known_score(job: Job, ids: pd.Series, predictions: np.ndarray, task: Task, rule: Rule | None) -> KnownScore | None:
    """The score on the known test labels; None if there are none that can be used, which is said."""
    known = read_known_labels(ids, task, job.competition, job.paths)
    if known is None:
        return None
    say_faults(known, "submit")
    here = ids.isin(known.labels.index).to_numpy()
    if not here.any():
        return None
    targets = task.targets(known.labels.loc[ids[here]].reset_index(drop=True))
    try:
        value = task.score(metric_of(job.competition, task, job.paths), targets, predictions[here], rule)
    except FoldwiseError as fault:
        say("submit", f"note: there is no score on the known test labels: {fault}")
        return None
    return KnownScore(value, int(here.sum()))


def run(job: Job) -> pd.DataFrame | None:
    """Writes the submission and returns its table; None if the competition has no test images."""
    competition, paths, files = job.competition, job.paths, job.predictions
    target = submit_files(paths, paths.facts(), files)
    read = target.hash_inputs()
    if not files.record.exists():
        what = "the runs" if job.call.blend else "the folds"
        again = job.call.make_line(job.call.combined_by)
        raise StaleError(f"{what} of {job.call.blend or job.run.name} are not combined yet; type: {again}")
    score = read_record(files.record)
    form = competition.submission
    if form is None:
        say(
            "submit",
            f"no test images, so there is nothing to submit; {known_of(score)}",
        )
        return None

    ids, predictions, task = load_test(job, score)
    predictions = apply_steps(task, predictions, score.get("steps", []))
    table = format_submission(ids, predictions, task, form, score.get("rule"), read_sample(competition, paths))
    sample = paths.find(form.sample) if form.sample and not paths.dry_run else None
    if sample:
        table = check_sample(table, sample, form)
    known = known_score(job, ids, predictions, task, score.get("rule"))

    path = paths.submission(files.name)
    text = submission_text(table, form)
    keep_older(path, text)
    about = {
        "competition": paths.competition,
        "submission": path.name,
        "submission_sha256": fingerprint(text),
        "rows": len(table),
        "images": len(ids),
        "call": asdict(job.call),
        "checked_against": sample.name if sample else None,
        "test_score": None if known is None else known.value,
        "score": score,
        "competition_sha256": fingerprint(paths.toml),
        "made_of": {run: made_of(paths, run) for run in score.get("runs", [job.run.name])},
        **provenance(),
    }
    add_row(
        paths, "submission", files.name, metric=score["metric"], score=score["cv_score"],
        expected=score["expected_score"], sha256=about["submission_sha256"], commit=about["commit"],
    )  # fmt: skip
    write_text(path, text)
    write_json(target.record, {**about, **target.new_record(read, [path])})
    report(job, path, about, known)
    return table


def report(job: Job, path: Path, about: dict[str, Any], known: KnownScore | None) -> None:
    """Prints what was written, the score to expect, and the command that uploads it."""
    score = about["score"]
    partial = f", PARTIAL: {len(score['folds'])} of {job.num_folds} folds" if score["partial"] else ""
    checked = f", ids and header as in {about['checked_against']}" if about["checked_against"] else ""
    say("submit", f"{count_of(about['rows'], 'row')}{checked}{partial} -> {shown(path)}")
    say("submit", known_of(score))
    if known is not None:
        on_train = "" if score["train_score"] is None else f", {score['train_score']:.4f} on train images"
        some = "" if known.number == about["images"] else f" of {known.number:,} of {about['images']:,} images"
        say("submit", f"{score['metric']} {known.value:.4f} on the known test labels{some}{on_train}")
    call = job.call if job.call.blend else replace(job.call, recipe=job.run.recipe)
    say("submit", f"a page that explains it: {call.make_line('report')}")
    if job.competition.slug and not job.paths.dry_run:
        message = path.stem + ("" if score["cv_score"] is None else f" cv={score['cv_score']:.4f}")
        say("submit", f'upload: kaggle competitions submit {job.competition.slug} -f {shown(path)} -m "{message}"')


def main(argv: list[str] | None = None) -> None:
    run(job_of(PARSER.parse_args(argv)))


if __name__ == "__main__":
    run_stage(main)
