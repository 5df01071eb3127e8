"""Reads known labels of test images, which only serve to print a score. A fault in them never prevents a submission."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from pipeline.records.competition import Competition
from pipeline.records.label_kinds import Kind, kind_of_columns
from pipeline.records.labels import as_in_manifest, check_labels
from pipeline.records.paths import Paths
from pipeline.records.problems import DROPPED
from pipeline.records.sources import stripped
from pipeline.records.tables import read_csv
from pipeline.system.console import say
from pipeline.system.errors import FoldwiseError, InputError, count_of
from pipeline.system.places import shown
from pipeline.tasks.task import Task


class KnownLabels(NamedTuple):
    """Labels of test images.

    labels: as the manifest has labels, by image_id
    faults: what cannot be used, for the user
    """

    labels: pd.Series
    faults: list[str]


NONE = pd.Series([], dtype=str)


def read_known_labels(ids: pd.Series, task: Task, competition: Competition, paths: Paths) -> KnownLabels | None:
    """The labels of the test images ``ids`` (N,), as far as they are valid; None if competition.toml names none.

    They are in the CSV ``[test] labels``, in columns with the names of the targets, of the label column or of the
    submission, else in the second column; or the manifest stage found them in the names of the images.
    """
    source = competition.test
    if source is None or (source.labels is None and not source.names_contain_labels):
        return None
    try:
        path = paths.test_labels if source.names_contain_labels else paths.find(str(source.labels))
        form, train = competition.submission, competition.train
        submitted = form.columns[1:] if form is not None and form.columns else []
        return known_labels(read_csv(path), ids, task, path, [str(train.label_column), *submitted])
    except FoldwiseError as fault:
        return KnownLabels(NONE, [str(fault)])


def known_labels(
    table: pd.DataFrame, ids: pd.Series, task: Task, path: Path, likely: Sequence[str] = ()
) -> KnownLabels:
    """As ``read_known_labels``, from the table of a CSV; raises FoldwiseError if nothing of it can be used.

    likely: names of columns that may hold the labels
    """
    known, names = stripped(table), task.target_names
    key = known.columns[0]
    of_targets = names if len(names) > 1 or task.kind == "regression" else []
    chosen = list(of_targets) if of_targets and {*of_targets} <= {*known.columns[1:]} else []
    chosen = chosen or [name for name in likely if name in known.columns[1:]][:1] or list(known.columns[1:2])
    if not chosen:
        raise InputError(f"{shown(path)} needs an id and a label column, but has only '{key}'")
    known = known.drop_duplicates([key, *chosen])
    here = known[known[key].isin(ids)].reset_index(drop=True)
    if here.empty:
        if known.empty:
            return KnownLabels(NONE, [])
        raise InputError(
            f"the first column of {shown(path)} has none of the test ids, such as '{ids.iloc[0]}'; correct that file, "
            "or [test] in competition.toml"
        )
    faults = []
    repeated = here[key].duplicated(keep=False)
    if repeated.any():
        faults.append(f"{shown(path)} has several labels for the id '{here[key][repeated].iloc[0]}'")
        here = here[~repeated].reset_index(drop=True)
    cells = here[chosen]
    if len(chosen) > 1:
        kind_of_columns(cells)  # raises an error for cells that are not numbers
    kind = Kind(task.kind, task.separator)
    listed = pd.DataFrame({"name": here[key], "label": as_in_manifest(cells, kind, names)})
    usable, problems = check_labels(listed, kind, names)
    wrong = [problem for problem in problems if problem.problem in DROPPED]
    if wrong:
        first = wrong[0]
        faults.append(
            f"{shown(path)}: {first.problem} for {count_of(len(wrong), 'id')}, such as '{first.path}' ({first.detail})"
        )
    return KnownLabels(usable.set_index("name")["label"], faults)


def say_faults(known: KnownLabels, stage: str) -> None:
    """Prints what cannot be used."""
    for fault in known.faults:
        say(stage, f"note: known test labels: {fault}; they are left out of the score on the test labels")


def check_known_labels(ids: pd.Series, task: Task, competition: Competition, paths: Paths) -> None:
    """Says which of the known labels cannot be used, before anything is trained."""
    source = competition.test
    if source is not None and not source.names_contain_labels:  # those were checked with the images
        known = read_known_labels(ids, task, competition, paths)
        if known is not None:
            say_faults(known, "manifest")
