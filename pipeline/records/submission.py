"""Formats the CSV to upload, and checks it against the sample submission."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from pipeline.records.competition import Competition, Submission
from pipeline.records.paths import Paths
from pipeline.records.sample import check_values
from pipeline.records.tables import read_csv, require_same_ids, require_unique, sorted_ids
from pipeline.system.console import say
from pipeline.system.errors import InputError
from pipeline.system.files import fingerprint
from pipeline.system.places import shown
from pipeline.tasks.forms import Form, cells
from pipeline.tasks.task import Task


class Layout(NamedTuple):
    """The header and the form of a submission.

    header: names of all columns
    form: what the cells hold; its columns are those before they become rows
    """

    header: list[str]
    form: Form


def read_sample(competition: Competition, paths: Paths) -> pd.DataFrame | None:
    """The sample submission, every cell as text; None if competition.toml names none."""
    form = competition.submission
    if form is None or form.sample is None:
        return None
    return read_csv(paths.find(form.sample), header=None if form.header else form.columns or [])


def submitted_columns(competition: Competition, sample: pd.DataFrame | None) -> list[str]:
    """The columns after the id, from competition.toml or the sample; [] if they are not known, or are rows."""
    form = competition.submission
    if form is None or form.rows is not None:
        return []
    if form.columns is not None:
        return form.columns[1:]
    return list(sample.columns[1:]) if sample is not None and form.header else []


def layout_of(submission: Submission, task: Task, sample: pd.DataFrame | None) -> Layout:
    """The layout of the submission: what competition.toml leaves open follows from the sample and the task."""
    header = submission.columns
    if header is None and sample is not None:
        header = list(sample.columns) if submission.header else None
    width = len(header or []) if header or sample is None else len(sample.columns)
    value: str | None = submission.value
    if value is None:
        many = width > 2 or (not width and task.kind == "regression" and len(task.target_names) > 1)
        value = "columns" if many else task.forms[0]
    names = task.target_names if value in ("columns", "binary") else ["label"]
    if header is None:
        header = ["id", "label"] if submission.rows else ["id", *names]
    if len(header) < 2:
        raise InputError(f"the sample submission has only the column '{header[0]}'; it needs an id and a label")
    columns = names if submission.rows else header[1:]
    if submission.separator is not None and value not in ("topk", "labels"):
        raise InputError(
            f"[submission] separator has no effect with value = '{value}'; remove it from competition.toml"
        )
    separator = submission.separator or (task.separator if task.kind == "multilabel" else " ")
    options = (submission.positive, submission.k or 1, separator, submission.first_index)
    return Layout(header, Form(value, columns, *options))


def format_submission(
    ids: pd.Series,
    predictions: np.ndarray,
    task: Task,
    submission: Submission,
    rule: dict[str, Any] | None = None,
    sample: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """The table that the competition asks for, sorted by id; all cells are text, so that they are written unchanged.

    ids: (N,) str; predictions: (N, C); rule: how the task decides, None for the default rule

    Raises FoldwiseError if the form names a class that does not exist.
    """
    header, form = layout_of(submission, task, sample)
    table = cells(
        task, predictions, form, rule if rule is not None else task.default_rule(task.metric(task.default_metric))
    )
    table.insert(0, header[0], ids.to_numpy())
    table = table.set_index(header[0]).loc[sorted_ids(ids)].reset_index()
    if submission.rows is None:
        return table
    # One row for each id and column: by ids, and for each id in the order of the columns.
    long = table.melt(header[0], form.columns, "column", header[1], ignore_index=False).sort_index(kind="stable")
    pairs = zip(long[header[0]], long["column"], strict=True)
    names = [submission.rows.replace("{id}", row).replace("{column}", name) for row, name in pairs]
    return pd.DataFrame({header[0]: names, header[1]: long[header[1]].to_numpy()})


def submission_text(table: pd.DataFrame, form: Submission) -> str:
    """The text of the CSV to upload, with LF line ends, and with a header if the form asks for one."""
    return table.to_csv(index=False, header=form.header, lineterminator="\n")


def check_sample(table: pd.DataFrame, path: Path, form: Submission) -> pd.DataFrame:
    """Returns the table, in the row order of the sample if the form asks for it.

    Raises FoldwiseError if the header or the ids differ from those of the sample.
    """
    sample = read_csv(path, header=None if form.header else list(table.columns))
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
        f"the test images and {shown(path)} must have the same ids; correct [test] in competition.toml, for "
        f"example with ids = '{path.name}'",
    )
    return table.set_index(key).loc[sample[key]].reset_index() if form.order == "sample" else table


def check_submission(ids: pd.Series, task: Task, competition: Competition, paths: Paths) -> None:
    """Raises FoldwiseError if submit would fail after hours of training, or would submit another kind of values.

    This is so if [submission] does not fit the task, or the sample does not fit the test images or the values.
    """
    form = competition.submission
    if form is None:
        return
    number, sample = len(task.target_names), read_sample(competition, paths)
    table = format_submission(ids, np.full((len(ids), number), 1 / number), task, form, sample=sample)
    if sample is not None:
        path = paths.find(str(form.sample))
        check_sample(table, path, form)
        if not form.placeholder:
            check_values(sample, layout_of(form, task, sample).form, task, path)


def keep_older(path: Path, text: str) -> None:
    """Adds the fingerprint of an older submission to its name and that of its JSON, if the content differs."""
    if path.exists() and path.read_bytes() != text.encode():
        mark = fingerprint(path)[:8]
        for old in (path.with_name(f"{path.stem}.json"), path):  # the CSV last, so that this can be interrupted
            if old.exists():
                old.replace(old.with_name(f"{path.stem}.{mark}{old.suffix}"))
        say("submit", f"the older {path.name}, whose content differs, is kept as {path.stem}.{mark}.csv")
