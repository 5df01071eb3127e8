"""Collects what was found about single files, for problems.csv."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from pipeline.records.paths import Paths
from pipeline.records.tables import require_written_by_foldwise, write_csv
from pipeline.system.errors import InputError, count_of
from pipeline.system.places import shown

#: Problems that drop a train image; others are only reported.
DROPPED = {"unreadable", "name does not match", "no label", "label outside classes", "label is not a number"}
DROPPED |= {"file missing"}


class Problem(NamedTuple):
    """Something that was found about a file.

    path: name of the file; later its path as in the manifest
    problem: kind of problem
    detail: message for the user
    """

    path: str
    problem: str
    detail: str


def unmatched_problems(names: Iterable[str], detail: str) -> list[Problem]:
    """A problem for each file that is left out because its name does not match."""
    return [Problem(name, "name does not match", detail) for name in names]


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


def write_problems(paths: Paths, problems: list[Problem]) -> None:
    """Writes problems.csv."""
    require_written_by_foldwise(paths.problems, Problem._fields, paths.manifest_record)
    write_csv(paths.problems, pd.DataFrame(problems, columns=list(Problem._fields)))


def require_images(
    table: pd.DataFrame, problems: list[Problem], max_missing: float, advice: str = "", report: Path | None = None
) -> None:
    """Raises FoldwiseError if too many test rows have no image, since they would get the same prediction.

    advice: what to correct, if it is not [test] of competition.toml
    report: the file that lists all problems, for the message
    """
    missing = [problem for problem in problems if problem.problem == "file missing"]
    if len(missing) > max_missing * len(table):
        rows = f"{len(missing):,} of {count_of(len(table), 'test row')}"
        see = f"see all of them in {shown(report)}, " if report is not None else ""
        raise InputError(
            f"{rows} {'has' if len(missing) == 1 else 'have'} no image, more than max_missing = "
            f"{max_missing} allows, such as '{missing[0].path}' ({missing[0].detail}); {see}"
            f"{advice or 'correct [test] (images may be a list of folders)'}, or raise max_missing"
        )
