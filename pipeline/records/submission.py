"""Formats the CSV to upload, and checks it against the sample submission."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.records.competition import Competition, Submission
from pipeline.records.paths import Paths
from pipeline.records.tables import read_csv, require_same_ids, require_unique, sorted_ids
from pipeline.records.task import Task
from pipeline.system.errors import InputError
from pipeline.system.places import shown


def format_submission(ids: pd.Series, predictions: np.ndarray, task: Task, form: Submission) -> pd.DataFrame:
    """The table that the competition asks for, sorted by id; all cells are text, so that they are written unchanged.

    ids: (N,) str; predictions: (N, C). Raises FoldwiseError if the form names a class that does not exist.
    """
    table = task.cells(predictions, form)
    table.insert(0, form.columns[0], ids.to_numpy())
    return table.set_index(form.columns[0]).loc[sorted_ids(ids)].reset_index()


def submission_text(table: pd.DataFrame, form: Submission) -> str:
    """The text of the CSV to upload, with LF line ends, and with a header if the form asks for one."""
    return table.to_csv(index=False, header=form.header, lineterminator="\n")


def check_sample(table: pd.DataFrame, path: Path, form: Submission) -> pd.DataFrame:
    """Returns the table, in the row order of the sample if the form asks for it.

    Raises FoldwiseError if the header or the ids differ from those of the sample.
    """
    sample = read_csv(path, header=None if form.header else form.columns)
    if list(sample.columns) != list(table.columns):
        raise InputError(
            f"{shown(path)} has the columns {','.join(sample.columns)}, but [submission] columns = "
            f"{','.join(table.columns)}; correct competition.toml"
        )
    key = table.columns[0]
    require_unique(sample[key], shown(path))
    require_same_ids(
        sample[key],
        table[key],
        "the submission",
        f"the test images and {shown(path)} must have the same ids; correct [test] in competition.toml",
    )
    return table.set_index(key).loc[sample[key]].reset_index() if form.order == "sample" else table


def check_submission(ids: pd.Series, task: Task, competition: Competition, paths: Paths) -> None:
    """Raises FoldwiseError if submit would fail after hours of training: if [submission] or the sample does not fit."""
    form = competition.submission
    if form is not None:
        number = len(task.target_names)
        table = format_submission(ids, np.full((len(ids), number), 1 / number), task, form)
        if form.sample is not None:
            check_sample(table, paths.find(form.sample), form)
