"""The form of the file to upload: how probabilities become its rows, and whether it fits the competition's sample."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.records.competition import Competition, Submission
from pipeline.records.paths import Paths
from pipeline.records.tables import read_csv, require_same_ids, require_unique, sorted_ids
from pipeline.records.task import Task
from pipeline.system.errors import FoldwiseError
from pipeline.system.places import shown


def format_submission(ids: pd.Series, predictions: np.ndarray, task: Task, form: Submission) -> pd.DataFrame:
    """The table that the competition asks for, sorted by id; all cells are text, so that they are written unchanged.

    ids: (N,) str; predictions: (N, C). Raises FoldwiseError if the form names a class that does not exist.
    """
    table = task.cells(predictions, form)
    table.insert(0, form.columns[0], ids.to_numpy())
    return table.set_index(form.columns[0]).loc[sorted_ids(ids)].reset_index()


def submission_text(table: pd.DataFrame, form: Submission) -> str:
    """The CSV as it is uploaded: LF line ends, with a header where the form has one."""
    return table.to_csv(index=False, header=form.header, lineterminator="\n")


def check_sample(table: pd.DataFrame, path: Path, form: Submission) -> pd.DataFrame:
    """The table, in the sample's row order where the form says so; raises FoldwiseError unless header and ids agree."""
    sample = read_csv(path, header=None if form.header else form.columns)
    if list(sample.columns) != list(table.columns):
        raise FoldwiseError(
            f"{shown(path)} has the columns {','.join(sample.columns)}, but [submission] columns = "
            f"{','.join(table.columns)}; mend competition.toml"
        )
    key = table.columns[0]
    require_unique(sample[key], shown(path))
    require_same_ids(
        sample[key],
        table[key],
        "the submission",
        f"the test images and {shown(path)} must name the same ids; mend [test] in competition.toml",
    )
    return table.set_index(key).loc[sample[key]].reset_index() if form.order == "sample" else table


def rehearse_submission(ids: pd.Series, task: Task, competition: Competition, paths: Paths) -> None:
    """Raises now what submit would raise after hours of training: a form or a sample that does not fit."""
    form = competition.submission
    if form is not None:
        number = len(task.target_names)
        table = format_submission(ids, np.full((len(ids), number), 1 / number), task, form)
        if form.sample is not None:
            check_sample(table, paths.find(form.sample), form)
