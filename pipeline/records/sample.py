"""Compares the values of the sample submission with those that would be submitted, before anything is trained."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from pipeline.system.console import say
from pipeline.system.errors import InputError
from pipeline.system.places import shown
from pipeline.tasks.forms import Form
from pipeline.tasks.regression import number
from pipeline.tasks.task import Task

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


def check_column(cells: pd.Series, form: Form, task: Task, path: Path) -> None:
    """Checks one column of the sample (N,), without empty cells."""
    if cells.empty:
        return
    found = kind_of_values(cells, task, form.separator)
    names_are_numbers = all(number(name) is not None for name in task.target_names)
    submitted, problem = "", ""
    if form.value == "class":
        submitted = "the names of classes, such as '" + task.target_names[0] + "'"
        if found == "texts" and cells.nunique() > 1:
            problem = f"'{first_unknown(cells, task.target_names)}' is not a class"
        elif found not in ("texts", "names of classes") and not (
            names_are_numbers and found != "several names of classes"
        ):
            problem = f"it has {found}"
        elif found not in ("texts", "names of classes") and cells.nunique() > 1:
            problem = f"'{first_unknown(cells, task.target_names)}' is not a class"
    elif form.value == "index":
        last = form.first_index + len(task.target_names) - 1
        submitted = f"the numbers {form.first_index} to {last}"
        problem = problem_of_index(cells, found, form.first_index, last)
    elif form.value in ("topk", "labels"):
        submitted = f"names of classes, separated by '{form.separator}'"
        problem = problem_of_names(cells, found, form, task)
    elif form.value in ("probability", "columns") and task.kind != "regression":
        submitted = "probabilities"
        if found not in ("zeros and ones", "probabilities") and not all_between(cells, 0, 1):
            problem = f"it has {found}"
    elif form.value == "binary":
        submitted = "zeros and ones"
        problem = "" if all_in(cells, {"0", "1"}) else f"it has {found}"
    elif form.value in ("number", "columns", "rounded"):
        submitted = "whole numbers" if form.value == "rounded" else "numbers"
        if any(number(cell) is None for cell in cells.unique()):
            problem = f"it has {found}"
        elif form.value == "rounded" and any(float(cell) % 1 for cell in cells.unique()):
            problem = "it has numbers with decimals"
    if problem:
        raise InputError(
            f"{shown(path)} does not fit value = '{form.value}' of [submission], which submits {submitted}: in its "
            f"column '{cells.name}' {problem}, such as '{cells.iloc[0]}'{advice_for(found, form, task, cells)}; if the "
            "values are placeholders, set placeholder = true in [submission]"
        )
    if found == "texts":
        say(
            "manifest",
            f"note: every row of {path.name} has '{cells.iloc[0]}' in '{cells.name}', which is taken for a placeholder, "
            f"since value = '{form.value}' submits {submitted}",
        )


def problem_of_index(cells: pd.Series, found: str, first: int, last: int) -> str:
    """What is wrong with cells that should be numbers of classes; "" for nothing."""
    if any(number(cell) is None for cell in cells.unique()):
        return f"it has {found}"
    if not all_between(cells, first, last) or any(float(cell) % 1 for cell in cells.unique()):
        values = cells.astype(float)
        return f"the numbers go from {values.min():g} to {values.max():g}"
    return ""


def problem_of_names(cells: pd.Series, found: str, form: Form, task: Task) -> str:
    """What is wrong with cells that should be several names of classes; "" for nothing."""
    most = max(len(cell.split(form.separator)) for cell in cells.unique())
    if form.value == "topk" and most > form.k:
        return f"a cell has {most} names, but k = {form.k}"
    if found in ("names of classes", "several names of classes"):
        return ""
    if found != "texts" or cells.nunique() > 1:
        parts = pd.Series([part for cell in cells.unique() for part in cell.split(form.separator)])
        return f"'{first_unknown(parts, task.target_names)}' is not a class"
    return ""


def first_unknown(cells: pd.Series, names: list[str]) -> str:
    """The first cell that is not one of the names."""
    return next((cell for cell in cells if cell not in names), "")


def all_between(cells: pd.Series, low: float, high: float) -> bool:
    """True if all cells are numbers in a range."""
    numbers = [number(cell) for cell in cells.unique()]
    return all(value is not None and low <= value <= high for value in numbers)


def all_in(cells: pd.Series, known: set[str]) -> bool:
    """True if all cells are one of the known texts, as numbers."""
    return all(number(cell) is not None and f"{float(cell):g}" in known for cell in cells.unique())


def advice_for(found: str, form: Form, task: Task, cells: pd.Series) -> str:
    """Which value of [submission] would fit the sample."""
    fits = [f"'{value}'" for value in ADVICE.get(found, ()) if value in task.forms and value != form.value]
    advice = f"; value = {' or '.join(fits)} may be right" if fits else ""
    if form.value == "index" and all_between(cells, 1, len(task.target_names)):
        advice += "; if the classes are counted from 1, set first_index = 1"
    return advice
