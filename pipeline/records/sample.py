"""Compares the values of the sample submission with those that would be submitted, before anything is trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from pipeline.system.console import say
from pipeline.system.errors import InputError
from pipeline.system.places import shown
from pipeline.tasks.forms import Form
from pipeline.tasks.regression import number
from pipeline.tasks.task import Task

#: Separators that are looked for in the cells.
SEPARATORS = (" ", ",", ";", "|", "+")
#: What cells can be, in words for the user, and the values of [submission] that submit it.
ADVICE = {
    "names of classes": ("class", "labels"),
    "several names of classes": ("topk", "labels"),
    "zeros and ones": ("binary", "index", "probability", "rounded"),
    "probabilities": ("probability", "columns", "number"),
    "whole numbers": ("index", "rounded"),
    "numbers with decimals": ("number",),
}


def kind_of_values(cells: pd.Series, task: Task, separator: str) -> str:
    """What these cells (N,) are: a key of ADVICE, or "texts"."""
    distinct = [cell for cell in cells.unique() if cell != ""]
    numbers = [number(cell) for cell in distinct]
    known = {*task.target_names}
    if task.kind != "regression" and distinct and all(cell in known for cell in distinct):
        return "names of classes"
    if numbers and None not in numbers:
        values = pd.Series(numbers, dtype=float)
        if (values % 1 == 0).all():
            return "zeros and ones" if values.isin([0, 1]).all() else "whole numbers"
        return "probabilities" if values.between(0, 1).all() else "numbers with decimals"
    if distinct and all({*cell.split(separator)} <= known for cell in distinct):
        return "several names of classes"
    return "texts"


def check_values(sample: pd.DataFrame, form: Form, task: Task, path: Path) -> None:
    """Raises FoldwiseError if the sample clearly holds another kind of values than would be submitted.

    A single value in all rows may be a placeholder: if it is a text that is not a class, this is only noted.
    """
    columns = [sample[name] for name in sample.columns[1:]]
    for cells in columns:
        check_column(cells[cells != ""], form, task, path)


class Column(NamedTuple):
    """A column of the sample.

    cells: (N,) text, without empty cells
    found: what they are, of ``kind_of_values``
    form, task: what would be submitted
    """

    cells: pd.Series
    found: str
    form: Form
    task: Task

    @property
    def varies(self) -> bool:
        """False if all cells are the same: then they may be a placeholder."""
        return self.cells.nunique() > 1


def check_column(cells: pd.Series, form: Form, task: Task, path: Path) -> None:
    """Checks one column of the sample (N,), without empty cells."""
    if cells.empty:
        return
    column = Column(cells, kind_of_values(cells, task, form.separator), form, task)
    submitted, problem = CHECKS[form.value](column)
    if problem:
        raise InputError(
            f"{shown(path)} does not fit value = '{form.value}' of [submission], which submits {submitted}: in its "
            f"column '{cells.name}' {problem}, such as '{cells.iloc[0]}'{advice_for(column)}; if the values are "
            "placeholders, set placeholder = true in [submission]"
        )
    strange = form.value == "class" and first_unknown(cells, task.target_names) != ""
    if column.found == "texts" or strange:
        say(
            "manifest",
            f"note: every row of {path.name} has '{cells.iloc[0]}' in '{cells.name}', taken for a placeholder, "
            f"since value = '{form.value}' submits {submitted}",
        )


def check_names(column: Column) -> tuple[str, str]:
    """What "class" submits, and what is wrong with the cells; "" for nothing. The other checks return the same."""
    cells, found, _, task = column
    submitted = f"the names of classes, such as '{task.target_names[0]}'"
    if found in ("names of classes", "texts") or all(number(name) is not None for name in task.target_names):
        unknown = first_unknown(cells, task.target_names)
        return submitted, f"'{unknown}' is not a class" if unknown and column.varies else ""
    return submitted, f"it has {found}"


def check_index(column: Column) -> tuple[str, str]:
    cells, found, form, task = column
    last = form.first_index + len(task.target_names) - 1
    submitted = f"the numbers {form.first_index} to {last}"
    if not are_numbers(cells):
        return submitted, f"it has {found}"
    values = cells.astype(float)
    fits = values.between(form.first_index, last).all() and (values % 1 == 0).all()
    return submitted, "" if fits else f"the numbers go from {values.min():g} to {values.max():g}"


def check_several_names(column: Column) -> tuple[str, str]:
    cells, found, form, task = column
    submitted = f"names of classes, separated by '{form.separator}'"
    if found == "names of classes":
        return submitted, ""
    most = max(len(cell.split(form.separator)) for cell in cells.unique())
    if form.value == "topk" and most > form.k:
        return submitted, f"a cell has {most} names, but k = {form.k}"
    for mark in SEPARATORS:
        if found == "texts" and kind_of_values(cells, task, mark) == "several names of classes":
            return submitted, f"the names are separated by '{mark}' (set separator)"
    if found in ("names of classes", "several names of classes") or (found == "texts" and not column.varies):
        return submitted, ""
    parts = pd.Series([part for cell in cells.unique() for part in cell.split(form.separator)])
    return submitted, f"'{first_unknown(parts, task.target_names)}' is not a class"


def check_probabilities(column: Column) -> tuple[str, str]:
    if column.form.value == "columns" and column.task.kind == "regression":
        return check_numbers(column)
    fits = are_numbers(column.cells) and column.cells.astype(float).between(0, 1).all()
    return "probabilities", "" if fits else f"it has {column.found}"


def check_binary(column: Column) -> tuple[str, str]:
    fits = are_numbers(column.cells) and column.cells.astype(float).isin([0, 1]).all()
    return "zeros and ones", "" if fits else f"it has {column.found}"


def check_numbers(column: Column) -> tuple[str, str]:
    whole = column.form.value == "rounded"
    fits = are_numbers(column.cells) and not (whole and (column.cells.astype(float) % 1).any())
    return "whole numbers" if whole else "numbers", "" if fits else f"it has {column.found}"


#: By the values of [submission]: column -> (what is submitted, what is wrong with the cells).
CHECKS: dict[str, Callable[[Column], tuple[str, str]]] = {
    "class": check_names,
    "index": check_index,
    "topk": check_several_names,
    "labels": check_several_names,
    "probability": check_probabilities,
    "columns": check_probabilities,
    "binary": check_binary,
    "number": check_numbers,
    "rounded": check_numbers,
}


def first_unknown(cells: pd.Series, names: list[str]) -> str:
    """The first cell that is not one of the names."""
    return next((cell for cell in cells if cell not in names), "")


def are_numbers(cells: pd.Series) -> bool:
    """True if all cells are numbers."""
    return all(number(cell) is not None for cell in cells.unique())


def advice_for(column: Column) -> str:
    """Which value of [submission] would fit the sample."""
    cells, found, form, task = column
    fits = [f"'{value}'" for value in ADVICE.get(found, ()) if value in task.forms and value != form.value]
    advice = f"; value = {' or '.join(fits)} may be right" if fits else ""
    if form.value == "index" and are_numbers(cells) and cells.astype(float).between(1, len(task.target_names)).all():
        advice += "; if the classes are counted from 1, set first_index = 1"
    return advice
