"""Predicts another test folder with a finished run, as for the hidden test set of a code competition.

    make submit COMPETITION=cassava RECIPE=resnet18 TEST=/kaggle/input/cassava/test_images IDS=sample_submission.csv
    python -m pipeline.tools.hidden --competition cassava --recipe resnet18 --test test_images

Reads   the folder, the CSV of ids if it is given, and runs/<run>/: weights of the folds, and the rule of the ensemble
Writes  submissions/<competition>/<run>~test=<folder>.csv and .json; nothing else is changed
"""

from __future__ import annotations

from pipeline.records.command_line import parser_for
from pipeline.system.console import answer_early

PARSER = parser_for(__doc__, "run", "folds", "seeds", "device")
PARSER.add_argument("--test", required=True, metavar="FOLDER", help="a folder of images")
PARSER.add_argument("--ids", default="", metavar="CSV", help="the ids to predict (default: the names of the files)")
if __name__ == "__main__":  # before the imports that take seconds
    answer_early(PARSER)

import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from pipeline.formats.listing import PICTURES
from pipeline.learner.outside import Outside
from pipeline.pixels.inspection import with_inspection
from pipeline.records.competition import several
from pipeline.records.finding import Images, find_files, list_images, require_some, without_extension
from pipeline.records.job import Job, job_of
from pipeline.records.names import fold_name
from pipeline.records.problems import Problem, require_images
from pipeline.records.sources import test_table
from pipeline.records.submission import check_sample, format_submission, keep_older, read_sample, submission_text
from pipeline.records.tables import read_csv, read_folds, read_manifest, require_unique
from pipeline.system.console import run_stage, say
from pipeline.system.errors import InputError, StaleError, count_of
from pipeline.system.files import fingerprint, read_record, write_json, write_text
from pipeline.system.places import shown
from pipeline.system.provenance import provenance

#: Largest number of files that are named if they cannot be used.
MAX_NOTES = 10
#: How ids may follow from the path of a file in its folder, in this order.
FORMS: tuple[Callable[[str], str], ...] = (
    lambda name: PurePosixPath(name).stem,
    lambda name: PurePosixPath(name).name,
    without_extension,
    lambda name: name,
)


def table_of(job: Job, folder: Path, ids: Path | None) -> tuple[pd.DataFrame, list[Problem], Images]:
    """Rows (name, image_id) of the folder, its problems, and its files; raises FoldwiseError if ids are not known."""
    source, paths = job.competition.test, job.paths
    if source is None:
        raise InputError(f"{shown(paths.toml)} has no [test] and [submission], so there is nothing to submit")
    images = list_images(paths, str(folder.absolute()), "test")
    suffixes = {name: PurePosixPath(name).suffix.lower() for name in images.names}
    images = images._replace(names=[name for name in images.names if suffixes[name] in {*PICTURES, ""}])
    require_some(images, "test")
    changed: dict[str, str | bool | None] = {"images": str(folder.absolute()), "labels": None}
    if ids is not None:
        header = list(read_csv(ids).columns)
        column = source.id_column if source.ids and source.id_column in header else None
        if find_files(pd.Series(header[:1]), images, ids).names[0]:
            raise InputError(
                f"the first line of IDS = {ids} names the image '{header[0]}'; add a header line to the CSV"
            )
        changed |= {"ids": str(ids.absolute()), "pattern": None, "id_column": column, "header": True}
    elif source.ids is not None:
        form = form_of_ids(job)
        rows = pd.DataFrame({"name": images.names, "image_id": [form(name) for name in images.names]})
        require_unique(rows["image_id"], f"{shown(folder)}")
        return rows, [], images
    return *test_table(source.model_copy(update=changed), images, paths), images


def form_of_ids(job: Job) -> Callable[[str], str]:
    """How the ids of the test images follow from their paths; raises FoldwiseError if they do not."""
    manifest = read_manifest(job.paths.manifest)
    test = manifest[(manifest["split"] == "test") & (manifest["path"] != "")]
    assert job.competition.test is not None
    named = several(job.competition.test.images)
    folders = [place for name in named if (place := job.paths.find_folder(name)) is not None]
    files = [job.paths.home / path for path in test["path"]]
    insides = [
        next((file.relative_to(folder).as_posix() for folder in folders if file.is_relative_to(folder)), "")
        for file in files
    ]
    for form in FORMS:
        if [form(inside) for inside in insides] == test["image_id"].tolist():
            return form
    raise InputError("the ids of the test images do not follow from the names of their files; give IDS=file.csv")


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
    if not folder.is_dir():
        raise InputError(f"TEST = {folder} is not a folder")
    if ids is not None and not ids.is_file():
        raise InputError(f"IDS = {ids} is not a file")
    competition, paths = job.competition, job.paths
    form = competition.submission
    for part in job.of_seeds:
        for fold in job.folds:
            if not (part.fold_folder(fold) / "trained.json").exists():
                again = job.call.make_line("train")
                raise StaleError(f"{fold_name(fold)} of {part.run.name} is not trained; type: {again}")
    table, problems, images = table_of(job, folder, ids)
    assert form is not None and competition.test is not None  # else table_of has raised an error
    require_images(table, problems, competition.test.max_missing, "check TEST and IDS")
    outside = Outside(job)
    table, found = with_inspection(table, images.folder, "checking test images", {}, competition.max_pixels)
    all_problems = problems + found
    for problem in all_problems[:MAX_NOTES]:
        say("submit", f"note: {problem.path}: {problem.problem}: {problem.detail}")
    if len(all_problems) > MAX_NOTES:
        say("submit", f"note: ... and {len(all_problems) - MAX_NOTES:,} more files like these")
    table["path"] = [str(images.folder / name) for name in table["name"]]
    predictions = outside.after_steps(predict_rows(job, table, outside))
    submission = format_submission(
        table["image_id"], predictions, outside.task, form, outside.rule, read_sample(competition, paths)
    )
    if ids is not None and list(read_csv(ids).columns) == list(submission.columns):
        submission = check_sample(submission, ids, form)

    mark = re.sub(r"[^\w.-]", "-", folder.resolve().name)[:40]
    path = paths.submissions / job.members.name(f"{job.run.name}~test={mark}", ".csv")
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
