"""Stage 2: check all images, and write one row for each.

    make manifest COMPETITION=dogs-vs-cats
    python -m pipeline.manifest --competition dogs-vs-cats

Reads   data/<competition>/competition.toml and the images it names
Writes  manifest.csv (image_id, path, split, label, group, width, height, sha256), task.json (the kind of task and the
        names of its targets), problems.csv (path, problem, detail), contact_sheet.png (some images of each class) and,
        if the names of the test images contain their labels, test_labels.csv (id, label), which only submit reads
"""

from __future__ import annotations

from pipeline.records.command_line import parser_for
from pipeline.system.console import answer_early

PARSER = parser_for(__doc__)
if __name__ == "__main__":  # before the imports that take seconds
    answer_early(PARSER)

from collections import Counter
from itertools import islice

import pandas as pd

from pipeline.pixels.contact_sheet import draw_contact_sheet
from pipeline.pixels.inspection import with_inspection
from pipeline.records.competition import Competition
from pipeline.records.finding import list_images, require_some
from pipeline.records.job import Job, job_of
from pipeline.records.known_labels import check_known_labels
from pipeline.records.label_kinds import Kind
from pipeline.records.labelled import read_labels
from pipeline.records.labels import (
    as_in_manifest,
    check_labels,
    explain,
    require_variety,
    some_of_each,
    task_of,
)
from pipeline.records.paths import Paths
from pipeline.records.problems import (
    DROPPED,
    Problem,
    find_identical,
    manifest_paths,
    require_images,
    with_manifest_paths,
    write_problems,
)
from pipeline.records.sources import (
    shared_ids,
    test_table,
    train_ids,
)
from pipeline.records.submission import check_submission
from pipeline.records.tables import MANIFEST_COLUMNS, require_written_by_foldwise, sorted_ids, write_csv
from pipeline.records.task import metric_of, save_task, try_metric
from pipeline.records.up_to_date import StageFiles, manifest_files
from pipeline.system.console import run_stage, say
from pipeline.system.errors import InputError, count_of
from pipeline.system.files import write_json
from pipeline.system.index import Index
from pipeline.system.places import shown
from pipeline.tasks.task import Task


def train_part(
    paths: Paths, competition: Competition, hashes: dict[str, str]
) -> tuple[pd.DataFrame, Task, list[Problem]]:
    """The train rows of the manifest, what their labels are for, and their problems.

    Raises FoldwiseError if too many files cannot be used, or if all labels that remain are the same.
    """
    source = competition.train
    labelled = read_labels(paths, competition)
    table, kind, names_of_targets, problems = labelled.table, labelled.kind, labelled.names, labelled.problems
    images, folder = labelled.images, labelled.images.folder
    files = labelled.files
    if paths.dry_run:
        table, problems = some_of_each(table, task_of(kind, names_of_targets, table), competition), []
        files = len(table)
    if len(table):
        table, found = with_inspection(table, folder, "checking train images", hashes, competition.max_pixels)
    else:
        found = []
    problems += found
    table = table[table["width"] > 0].reset_index(drop=True) if len(table) else table
    problems += shared_ids(table, source.pattern, images)
    problems += [problem for problem in labelled.without_group if problem.path in {*table["name"]}]
    problems = with_manifest_paths(problems, folder, paths)

    bad = [problem for problem in problems if problem.problem in DROPPED]
    if len(bad) > source.max_bad * files or table.empty:
        write_problems(paths, problems)
        kinds = Counter(problem.problem for problem in bad)
        listing = ", ".join(f"{number} {kind}" for kind, number in kinds.most_common())
        raise InputError(
            f"{len(bad)} of {count_of(files, 'train file')} cannot be used ({listing}), more than "
            f"max_bad = {source.max_bad} allows, such as '{bad[0].path}' ({bad[0].detail}); see all of them in "
            f"{shown(paths.problems)}, correct the labels or the files, or raise [train] max_bad in competition.toml"
        )
    task = task_of(kind, names_of_targets, table)
    require_variety(table["label"], task, competition)
    explain(kind, task)
    table["image_id"], table["path"] = train_ids(table["name"]), manifest_paths(table, folder, paths)
    return table.assign(split="train"), task, problems


def test_part(
    paths: Paths, competition: Competition, task: Task, hashes: dict[str, str]
) -> tuple[pd.DataFrame, pd.DataFrame, list[Problem]]:
    """The test rows of the manifest, the labels in their file names (id, label), and their problems.

    No test row is dropped, since the submission needs every id.
    """
    source = competition.test
    assert source is not None
    images = list_images(paths, source.images, "test")
    folder = images.folder
    if source.ids is None:
        require_some(images, "test")
    table, problems = test_table(source, images, paths)
    write_problems(paths, problems)  # for the case that there are too many
    require_images(table, problems, source.max_missing, report=paths.problems)
    if source.images == competition.train.images:
        problems = [problem for problem in problems if problem.problem != "name does not match"]
    if paths.dry_run:
        table, problems = table.head(16), []
    table, found = with_inspection(table, folder, "checking test images", hashes, competition.max_pixels)
    prior = f"; its prediction will be {task.prior_words}"
    problems = [
        problem._replace(detail=problem.detail + prior)
        if problem.problem in ("unreadable", "file missing")
        else problem
        for problem in problems + found
    ]
    known = table[table["label"] != ""]
    if len(known):
        kind = Kind(task.kind, task.separator)
        known = known.assign(label=as_in_manifest(known[["label"]], kind, task.target_names))
        known, found = check_labels(known, kind, task.target_names)
        problems += found
    rows = table.assign(split="test", label="", group="", path=manifest_paths(table, folder, paths))
    return (
        rows,
        known[["image_id", "label"]].set_axis(["id", "label"], axis=1),
        with_manifest_paths(problems, folder, paths),
    )


def make_manifest(
    paths: Paths, competition: Competition, hashes: dict[str, str]
) -> tuple[pd.DataFrame, Task, pd.DataFrame, list[Problem]]:
    """The manifest, the task, the known labels of test rows (id, label), and all problems.

    Train rows come before test rows; each split is sorted by id.

    hashes: the sha256 of each image is added to it, by path
    """
    table, task, problems = train_part(paths, competition, hashes)
    parts, known = [table], pd.DataFrame(columns=["id", "label"])
    if competition.test is not None:
        table, known, found = test_part(paths, competition, task, hashes)
        parts.append(table)
        problems += found
    ordered = [part.set_index("image_id").loc[sorted_ids(part["image_id"])].reset_index() for part in parts]
    manifest = pd.concat(ordered, ignore_index=True)[MANIFEST_COLUMNS]
    return manifest, task, known, problems + find_identical(manifest)


def report(manifest: pd.DataFrame, task: Task, problems: list[Problem], paths: Paths) -> None:
    """Prints the classes, the image sizes, and at most three problems of each kind."""
    train = manifest[manifest["split"] == "train"]
    counts = {name: len(rows) for name, rows in task.members(train["label"]).items()}
    listing = ", ".join(f"{label} {count:,}" for label, count in islice(counts.items(), 12))
    more = f", ... ({min(counts.values()):,} to {max(counts.values()):,} each)" if len(counts) > 12 else ""
    number = sum(name != "(none)" for name in counts)
    say("manifest", f"{count_of(number, task.noun)}: {listing}{more}")
    for name in task.target_names if task.kind != "regression" else []:
        if name not in counts:
            say("manifest", f"note: no train image has the label '{name}'")
    sizes = manifest.loc[manifest["width"] > 0, ["width", "height"]]
    spans = [f"{side} {sizes[side].min()} to {sizes[side].max()} (median {sizes[side].median():.0f})" for side in sizes]
    say("manifest", f"sizes: {', '.join(spans)} pixels")
    used = set(manifest["path"])
    for kind in sorted({problem.problem for problem in problems}, key=lambda kind: (kind not in DROPPED, kind)):
        found = [problem for problem in problems if problem.problem == kind]
        dropped = sum(problem.path not in used for problem in found)
        dropped_note = f", {dropped:,} dropped" if dropped else ""
        say("manifest", f"note: {kind}: {count_of(len(found), 'file')}{dropped_note}")
        for problem in found[:3]:
            print(f"    {problem.path}: {problem.detail}")
        if len(found) > 3:
            print(f"    ... see all of them in {shown(paths.problems)}")


def make_with_hashes(
    target: StageFiles, job: Job
) -> tuple[pd.DataFrame, Task, pd.DataFrame, list[Problem], dict[str, str | None]]:
    """Returns what ``make_manifest`` returns, and the sha256 of all files that it read, by key.

    Each image is read only once, since the check also computes its sha256. A file that changes during the call counts
    as changed the next time.
    """
    index = Index(job.paths.home)
    index.begin()
    signatures = {str(file): index.signature(file) for file in target.inputs}
    hashes: dict[str, str] = {}
    manifest, task, known, problems = make_manifest(job.paths, job.competition, hashes)
    for file, sha256 in hashes.items():
        index.remember(file, signatures.get(file), sha256)
    others = {
        index.key(file): index.sha256(file) if index.signature(file) == signature else None
        for file, signature in signatures.items()
        if file not in hashes
    }
    index.save()
    return manifest, task, known, problems, {index.key(file): sha256 for file, sha256 in hashes.items()} | others


def refuse_to_replace(target: StageFiles, job: Job, known_text: str) -> None:
    """Raises FoldwiseError if manifest.csv or test_labels.csv is a file of the user, which would be replaced.

    known_text: the new content of test_labels.csv
    """
    paths, index = job.paths, Index(job.paths.home)
    require_written_by_foldwise(paths.manifest, MANIFEST_COLUMNS, paths.manifest_record)
    if names_contain_labels(job.competition) and paths.test_labels.exists():
        ours = (target.last_record() or {"made": {}})["made"]
        if index.key(paths.test_labels) not in ours and paths.test_labels.read_bytes() != known_text.encode():
            raise InputError(
                f"{shown(paths.test_labels)} would be replaced by the labels in the names of the test images, but "
                "Foldwise has not made it; give it another name"
            )


def names_contain_labels(competition: Competition) -> bool:
    """True if the names of the test images contain their labels."""
    return competition.test is not None and competition.test.names_contain_labels


def run(job: Job) -> pd.DataFrame:
    """Checks all images; writes the manifest and returns it."""
    paths, competition = job.paths, job.competition
    target = manifest_files(paths, paths.facts())
    manifest, task, known, problems, read = make_with_hashes(target, job)
    refuse_to_replace(target, job, known.to_csv(index=False, lineterminator="\n"))
    write_problems(paths, problems)
    report(manifest, task, problems, paths)
    draw_contact_sheet(manifest, task, paths)
    train, test = (manifest[manifest["split"] == split] for split in ("train", "test"))
    if not paths.dry_run:
        check_submission(test["image_id"], task, competition, paths)
        check_known_labels(test["image_id"], task, competition, paths)
    try_metric(task, train["label"], metric_of(competition, task, paths))
    made = [paths.manifest, paths.task, paths.problems, paths.contact_sheet]
    if names_contain_labels(competition):
        write_csv(paths.test_labels, known)
        made.append(paths.test_labels)
    save_task(paths, task)
    write_csv(paths.manifest, manifest)
    write_json(paths.manifest_record, target.new_record(read, made))
    say(
        "manifest",
        f"{count_of(len(train), 'train image')} and {count_of(len(test), 'test image')} "
        f"-> {shown(paths.manifest)}{job.call.next_step('folds')}",
    )
    return manifest


def main(argv: list[str] | None = None) -> None:
    run(job_of(PARSER.parse_args(argv)))


if __name__ == "__main__":
    run_stage(main)
