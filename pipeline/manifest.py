"""Stage 2: check all images, and write one row for each.

    make manifest COMPETITION=dogs-vs-cats
    python -m pipeline.manifest --competition dogs-vs-cats

Reads   data/<competition>/competition.toml and the images it names
Writes  manifest.csv (image_id, path, split, label, group, width, height, sha256), problems.csv (path, problem, detail),
        contact_sheet.png (some images of each class) and, if the names of the test images contain their labels,
        test_labels.csv (id, label), which only submit reads
"""

from __future__ import annotations

from pipeline.records.command_line import parser_for
from pipeline.system.console import answer_early

PARSER = parser_for(__doc__)
if __name__ == "__main__":  # before the imports that take seconds
    answer_early(PARSER)

from collections import Counter
from itertools import islice
from pathlib import Path

import pandas as pd

from pipeline.pixels.contact_sheet import draw_contact_sheet
from pipeline.pixels.inspection import with_inspection
from pipeline.records.competition import Competition, Test
from pipeline.records.job import Job, job_of
from pipeline.records.paths import Paths
from pipeline.records.sources import (
    Problem,
    check_labels,
    list_images,
    require_some,
    shared_ids,
    test_table,
    train_ids,
    train_table,
)
from pipeline.records.submission import check_submission
from pipeline.records.tables import MANIFEST_COLUMNS, require_written_by_foldwise, sorted_ids, write_csv
from pipeline.records.task import task_of
from pipeline.records.up_to_date import StageFiles, manifest_files
from pipeline.system.console import run_stage, say
from pipeline.system.errors import InputError, count_of
from pipeline.system.files import write_json
from pipeline.system.index import Index
from pipeline.system.places import shown
from pipeline.system.toml import read_toml

#: Problems that drop a train image; others are only reported.
DROPPED = {"unreadable", "name does not match", "no label", "label outside classes", "file missing"}


def train_part(paths: Paths, competition: Competition, hashes: dict[str, str]) -> tuple[pd.DataFrame, list[Problem]]:
    """The train rows of the manifest, and their problems.

    Raises FoldwiseError if too many files cannot be used, or if fewer than two classes remain.
    """
    source = competition.train
    folder, names = list_images(paths, source.images, "train")
    require_some(names, folder, "train")
    if competition.test is not None and competition.test.images == source.images:  # both are in one folder
        of_test = set(test_table(competition.test, names, folder, paths)[0]["name"])
        names = [name for name in names if name not in of_test]
    table, problems = train_table(source, names, folder, paths)
    if paths.dry_run:
        per_class = max(competition.folds.n, 40 // max(1, table["label"].nunique()))
        table, problems = table.groupby("label").head(per_class).reset_index(drop=True), []
    files = len(table) + len(problems)
    table, found = check_labels(table, competition.classes)
    problems += found
    table, found = with_inspection(table, folder, "checking train images", hashes) if len(table) else (table, [])
    problems += found
    table = table[table["width"] > 0].reset_index(drop=True) if len(table) else table
    problems += shared_ids(table, source.pattern)
    problems = with_manifest_paths(problems, folder, paths)

    bad = [problem for problem in problems if problem.problem in DROPPED]
    if len(bad) > source.max_bad * files or table.empty:
        write_problems(paths, problems)
        kinds = Counter(problem.problem for problem in bad)
        listing = ", ".join(f"{number} {kind}" for kind, number in kinds.most_common())
        raise InputError(
            f"{len(bad)} of {count_of(files, 'train file')} cannot be used ({listing}), more than "
            f"max_bad = {source.max_bad} allows, such as '{bad[0].path}' ({bad[0].detail}); see all of them in "
            f"{shown(paths.problems)}, correct the pattern or the files, or raise [train] max_bad in competition.toml"
        )
    if table["label"].nunique() < 2:
        raise InputError(f"all train images have the label '{table['label'].iloc[0]}'; at least two classes are needed")
    return table.assign(
        image_id=train_ids(table["name"]), split="train", path=manifest_paths(table, folder, paths)
    ), problems


def test_part(
    paths: Paths, source: Test, train_images: str, classes: list[str], hashes: dict[str, str]
) -> tuple[pd.DataFrame, pd.DataFrame, list[Problem]]:
    """The test rows of the manifest, the labels in their file names (id, label), and their problems.

    No test row is dropped, since the submission needs every id.
    """
    folder, names = list_images(paths, source.images, "test")
    if source.ids is None:
        require_some(names, folder, "test")
    table, problems = test_table(source, names, folder, paths)
    if source.images == train_images:
        problems = [problem for problem in problems if problem.problem != "name does not match"]
    if paths.dry_run:
        table, problems = table.head(16), []
    table, found = with_inspection(table, folder, "checking test images", hashes)
    prior = "; its prediction will be the share of each class"
    problems = [
        problem._replace(detail=problem.detail + prior)
        if problem.problem in ("unreadable", "file missing")
        else problem
        for problem in problems + found
    ]
    known = table[table["label"] != ""]
    if len(known):
        known, found = check_labels(known, classes)
        problems += found
    rows = table.assign(split="test", label="", group="", path=manifest_paths(table, folder, paths))
    return (
        rows,
        known[["image_id", "label"]].set_axis(["id", "label"], axis=1),
        with_manifest_paths(problems, folder, paths),
    )


def manifest_paths(table: pd.DataFrame, folder: Path, paths: Paths) -> list[str]:
    """Paths as in the manifest: relative to the competition's folder if below it, else absolute; "" for no file."""
    base = folder.relative_to(paths.home) if folder.is_relative_to(paths.home) else folder
    return [(base / name).as_posix() if name else "" for name in table["name"]]


def with_manifest_paths(problems: list[Problem], folder: Path, paths: Paths) -> list[Problem]:
    """The problems, with their file names replaced by the paths of the manifest."""
    table = pd.DataFrame({"name": [problem.path for problem in problems]}, dtype=str)
    places = manifest_paths(table, folder, paths)
    return [problem._replace(path=path) for problem, path in zip(problems, places, strict=True)]


def find_identical(manifest: pd.DataFrame) -> list[Problem]:
    """Problems for byte-identical images: one for each image whose bytes are those of an earlier row.

    The kind of the problem says if they are in train and test, or if they have different labels.
    """
    problems = []
    known = manifest[manifest["sha256"] != ""]
    for _, twins in known[known["sha256"].duplicated(keep=False)].groupby("sha256", sort=False):
        first = twins.iloc[0]
        for twin in twins.iloc[1:].itertuples():
            if twin.split != first["split"]:
                kind, detail = "identical in train and test", f"the same bytes as {first['path']} ({first['label']})"
            elif twin.label != first["label"]:
                kind, detail = (
                    "identical with another label",
                    f"its label is '{twin.label}', but that of {first['path']} is '{first['label']}'",
                )
            else:
                kind, detail = "identical", f"the same bytes as {first['path']}"
            problems.append(Problem(twin.path, kind, detail))
    return problems


def make_manifest(
    paths: Paths, competition: Competition, hashes: dict[str, str]
) -> tuple[pd.DataFrame, pd.DataFrame, list[Problem]]:
    """The manifest, the known labels of test rows (id, label), and all problems.

    Train rows come before test rows; each split is sorted by id.

    hashes: the sha256 of each image is added to it, by path
    """
    table, problems = train_part(paths, competition, hashes)
    parts, known = [table], pd.DataFrame(columns=["id", "label"])
    if competition.test is not None:
        classes = task_of(competition, table["label"]).target_names
        table, known, found = test_part(paths, competition.test, competition.train.images, classes, hashes)
        parts.append(table)
        problems += found
    ordered = [part.set_index("image_id").loc[sorted_ids(part["image_id"])].reset_index() for part in parts]
    manifest = pd.concat(ordered, ignore_index=True)[MANIFEST_COLUMNS]
    return manifest, known, problems + find_identical(manifest)


def write_problems(paths: Paths, problems: list[Problem]) -> None:
    """Writes problems.csv."""
    require_written_by_foldwise(paths.problems, Problem._fields, paths.manifest_record)
    write_csv(paths.problems, pd.DataFrame(problems, columns=list(Problem._fields)))


def report(manifest: pd.DataFrame, problems: list[Problem], competition: Competition, paths: Paths) -> None:
    """Prints the classes, the image sizes, and at most three problems of each kind."""
    train = manifest[manifest["split"] == "train"]
    counts = train["label"].value_counts()
    counts = counts.loc[sorted_ids(counts.index)]
    listing = ", ".join(f"{label} {count:,}" for label, count in islice(counts.items(), 12))
    more = f", ... ({counts.min():,} to {counts.max():,} each)" if len(counts) > 12 else ""
    say("manifest", f"{count_of(len(counts), 'class')}: {listing}{more}")
    for name in sorted(set(competition.classes or []) - set(counts.index)):
        say("manifest", f"note: no train image has the label '{name}', which is in classes of competition.toml")
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
) -> tuple[pd.DataFrame, pd.DataFrame, list[Problem], dict[str, str | None]]:
    """Returns what ``make_manifest`` returns, and the sha256 of all files that it read, by key.

    Each image is read only once, since the check also computes its sha256. A file that changes during the call counts
    as changed the next time.
    """
    index = Index(job.paths.home)
    index.begin()
    signatures = {str(file): index.signature(file) for file in target.inputs}
    hashes: dict[str, str] = {}
    manifest, known, problems = make_manifest(job.paths, job.competition, hashes)
    for file, sha256 in hashes.items():
        index.remember(file, signatures.get(file), sha256)
    others = {
        index.key(file): index.sha256(file) if index.signature(file) == signature else None
        for file, signature in signatures.items()
        if file not in hashes
    }
    index.save()
    return manifest, known, problems, {index.key(file): sha256 for file, sha256 in hashes.items()} | others


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
    target = manifest_files(paths, read_toml(paths.toml))
    manifest, known, problems, read = make_with_hashes(target, job)
    refuse_to_replace(target, job, known.to_csv(index=False, lineterminator="\n"))
    write_problems(paths, problems)
    report(manifest, problems, competition, paths)
    draw_contact_sheet(manifest, paths)
    train, test = (manifest[manifest["split"] == split] for split in ("train", "test"))
    if not paths.dry_run:
        check_submission(test["image_id"], task_of(competition, train["label"]), competition, paths)
    made = [paths.manifest, paths.problems, paths.contact_sheet]
    if names_contain_labels(competition):
        write_csv(paths.test_labels, known)
        made.append(paths.test_labels)
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
