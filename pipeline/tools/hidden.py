"""Predicts another test folder with a finished run, as for the hidden test set of a code competition.

    make submit COMPETITION=cassava RECIPE=resnet18 TEST=/kaggle/input/cassava/test_images IDS=sample_submission.csv
    python -m pipeline.tools.hidden --competition cassava --recipe resnet18 --test test_images

Reads   the folder, the CSV of ids if it is given, and runs/<run>/: weights of the folds, and the rule of the ensemble
Writes  submissions/<competition>/<run>~test=<folder>.csv and .json; nothing else is changed
"""

from __future__ import annotations

from pipeline.records.command_line import parser_for
from pipeline.system.console import answer_early

PARSER = parser_for(__doc__, run=True, folds=True, device=True)
PARSER.add_argument("--test", required=True, metavar="FOLDER", help="a folder of images")
PARSER.add_argument("--ids", default="", metavar="CSV", help="the ids to predict (default: the names of the files)")
if __name__ == "__main__":  # before the imports that take seconds
    answer_early(PARSER)

import re
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from pipeline.formats.listing import PICTURES
from pipeline.learner.outside import Outside
from pipeline.pixels.inspection import with_inspection
from pipeline.records.competition import Test
from pipeline.records.finding import list_images, require_some
from pipeline.records.job import Job, job_of
from pipeline.records.names import name_with_folds
from pipeline.records.problems import require_images
from pipeline.records.sources import test_table
from pipeline.records.submission import check_sample, format_submission, keep_older, read_sample, submission_text
from pipeline.records.tables import read_csv, read_folds, read_manifest
from pipeline.system.console import run_stage, say
from pipeline.system.errors import InputError, StaleError, count_of
from pipeline.system.files import fingerprint, read_record, write_json, write_text
from pipeline.system.places import shown
from pipeline.system.provenance import provenance


def source_of(job: Job, folder: Path, ids: Path | None) -> Test:
    """[test] of competition.toml, for another folder and other ids."""
    source = job.competition.test
    if source is None:
        raise InputError(f"{shown(job.paths.toml)} has no [test] and [submission], so there is nothing to submit")
    changed = {"images": str(folder.absolute()), "labels": None}
    if ids is not None:
        column = source.id_column if source.ids and source.id_column in read_csv(ids).columns else None
        changed |= {"ids": str(ids.absolute()), "pattern": None, "id_column": column}
    elif source.ids is not None:  # the ids are names of files, with or without extension as those of the test set
        manifest = read_manifest(job.paths.manifest)
        known = manifest["image_id"][manifest["split"] == "test"]
        has_extension = known.map(lambda name: PurePosixPath(name).suffix.lower() in PICTURES).all()
        pattern = r"(?P<id>[^/]+)$" if has_extension else r"(?P<id>[^/]+?)(\.[^./]+)?$"
        changed |= {"ids": None, "pattern": pattern, "id_column": None, "header": None, "file_name": None}
    return source.model_copy(update=changed)


def predict_rows(job: Job, rows: pd.DataFrame, outside: Outside) -> np.ndarray:
    """Predictions (N, C) of all rows; an image that cannot be read gets the prior."""
    manifest = read_manifest(job.paths.manifest)
    labels = read_folds(job.paths.folds, job.num_folds, manifest)["label"]
    full = np.tile(outside.task.prior(outside.task.targets(labels)), (len(rows), 1))
    readable = rows[rows["width"] > 0]
    readable = readable.assign(position=np.arange(len(readable)))
    if len(readable):
        by_fold = outside.predict(outside.dataset(readable), "submit", fused=True)
        full[(rows["width"] > 0).to_numpy()] = np.mean(by_fold, axis=0)
    return full


def run(job: Job, folder: Path, ids: Path | None = None) -> pd.DataFrame:
    """Writes the submission for the folder and returns its table."""
    for path, is_there in ((folder, folder.is_dir()), (ids, ids is None or ids.is_file())):
        if not is_there:
            raise InputError(f"there is no {path}")
    competition, paths = job.competition, job.paths
    source = source_of(job, folder, ids)
    form = competition.submission
    assert form is not None  # the competition has [test]
    untrained = [fold for fold in job.folds if not (job.fold_folder(fold) / "trained.json").exists()]
    if untrained:
        raise StaleError(f"fold {untrained[0]} of {job.run.name} is not trained; type: {job.call.make_line('train')}")
    outside = Outside(job)
    images = list_images(paths, source.images, "test")
    require_some(images, "test")
    table, problems = test_table(source, images, paths)
    require_images(table, problems, source.max_missing)
    table, found = with_inspection(table, images.folder, "checking test images", {}, competition.max_pixels)
    for problem in problems + found:
        say("submit", f"note: {problem.path}: {problem.problem}: {problem.detail}")
    table["path"] = [str(images.folder / name) for name in table["name"]]
    predictions = predict_rows(job, table, outside)
    submission = format_submission(
        table["image_id"], predictions, outside.task, form, outside.rule, read_sample(competition, paths)
    )
    if ids is not None and list(read_csv(ids).columns) == list(submission.columns):
        submission = check_sample(submission, ids, form)

    mark = re.sub(r"[^\w.-]", "-", folder.resolve().name)[:40]
    path = paths.submissions / name_with_folds(f"{job.run.name}~test={mark}", job.folds, job.num_folds, ".csv")
    text = submission_text(submission, form)
    keep_older(path, text)
    score = read_record(job.predictions.record) if job.predictions.record.exists() else None
    write_text(path, text)
    about = {
        "competition": paths.competition, "submission": path.name, "submission_sha256": fingerprint(text),
        "rows": len(submission), "test": str(folder), "ids": None if ids is None else str(ids), "score": score,
        "images_sha256": fingerprint(table["sha256"].tolist()), **provenance(),
    }  # fmt: skip
    write_json(path.with_suffix(".json"), about)
    say("submit", f"{count_of(len(submission), 'row')} of {shown(folder)} -> {shown(path)}")
    return submission


def main(argv: list[str] | None = None) -> None:
    args = PARSER.parse_args(argv)
    run(job_of(args), Path(args.test), Path(args.ids) if args.ids else None)


if __name__ == "__main__":
    run_stage(main)
