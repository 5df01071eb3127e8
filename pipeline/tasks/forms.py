"""Defines the forms of a submission: what stands in the columns after the id.

Legend: N rows, C targets; predictions (N, C); decided (N, C), ones where a class or tag is chosen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pipeline.system.errors import InputError, suggestion
from pipeline.tasks.task import Rule, Task

#: Forms that submit decisions.
DECIDED = ("class", "index", "labels", "binary")


@dataclass(frozen=True)
class Form:
    """What the cells of the submission hold.

    value: name of the form, a key of FORMS
    columns: names of the columns after the id
    positive: class for "probability"
    k: number of guesses for "topk"
    separator: what separates several names in a cell
    first_index: number of the first class for "index"
    """

    value: str
    columns: list[str]
    positive: str | None = None
    k: int = 1
    separator: str = " "
    first_index: int = 0


def text_of(number: float) -> str:
    """A number with up to eight digits."""
    return f"{number:.8g}"


def names(task: Task, decided: np.ndarray, form: Form) -> list[list[str]]:
    return [[task.target_names[place] for place in decided.argmax(axis=1)]]


def index(task: Task, decided: np.ndarray, form: Form) -> list[list[str]]:
    return [[str(place + form.first_index) for place in decided.argmax(axis=1)]]


def probability(task: Task, predictions: np.ndarray, form: Form) -> list[list[str]]:
    if form.positive not in task.target_names:
        raise InputError(
            f"[submission] positive = '{form.positive}' is not one of the classes {', '.join(task.target_names)}"
        )
    return [[text_of(p) for p in predictions[:, task.target_names.index(form.positive)]]]


def by_column(task: Task, predictions: np.ndarray, form: Form) -> list[list[str]]:
    """One column for each target, in the order of the header."""
    if sorted(form.columns) != sorted(task.target_names):
        kind = "number" if task.kind == "regression" else "class"
        missing = [name for name in task.target_names if name not in form.columns]
        extra = [name for name in form.columns if name not in task.target_names]
        raise InputError(
            f"[submission] columns must be the id and every {kind}, {listed(task.target_names)}"
            + (f"; '{extra[0]}' is none{suggestion(extra[0], task.target_names)}" if extra else "")
            + (f"; {listed(missing)} {'is' if len(missing) == 1 else 'are'} missing" if missing else "")
        )
    return [[text_of(p) for p in predictions[:, task.target_names.index(name)]] for name in form.columns]


def require_separable(task: Task, form: Form) -> None:
    """Raises FoldwiseError if a name contains the separator, so that a cell could not be split into names again."""
    inside = next((name for name in task.target_names if form.separator in name), None)
    if inside is not None and (form.value, form.k) != ("topk", 1):
        raise InputError(
            f"'{inside}' contains the separator '{form.separator}' of the submission; set another separator in "
            "[submission] of competition.toml, as the competition asks for"
        )


def top_k(task: Task, predictions: np.ndarray, form: Form) -> list[list[str]]:
    if form.k > len(task.target_names):
        raise InputError(f"[submission] k = {form.k}, but there are only {len(task.target_names)} classes")
    require_separable(task, form)
    order = np.argsort(-predictions, axis=1, kind="stable")[:, : form.k]
    return [[form.separator.join(task.target_names[place] for place in row) for row in order]]


def chosen_labels(task: Task, decided: np.ndarray, form: Form) -> list[list[str]]:
    require_separable(task, form)
    return [[form.separator.join(task.target_names[place] for place in np.flatnonzero(row)) for row in decided]]


def one_number(task: Task, predictions: np.ndarray, form: Form) -> list[list[str]]:
    if task.kind == "regression" and len(task.target_names) != 1:
        raise InputError(
            f"[submission] value = '{form.value}' is for one number, but there are {len(task.target_names)}, "
            f"{', '.join(task.target_names)}; use value = 'columns'"
        )
    return [[text_of(value) for value in task.numbers(predictions)]]


def rounded(task: Task, predictions: np.ndarray, form: Form) -> list[list[str]]:
    return [[str(round(float(text))) for text in column] for column in one_number(task, predictions, form)]


#: By the names of ``[submission] value``: (task, predictions or decisions, form) -> the cells of each column.
FORMS: dict[str, Callable[[Task, np.ndarray, Form], list[list[str]]]] = {
    "class": names,
    "index": index,
    "probability": probability,
    "columns": by_column,
    "topk": top_k,
    "labels": chosen_labels,
    "binary": by_column,
    "number": one_number,
    "rounded": rounded,
}


def cells(task: Task, predictions: np.ndarray, form: Form, rule: Rule) -> pd.DataFrame:
    """The columns after the id, as text, from predictions (N, C).

    Raises FoldwiseError if the form does not apply to the task, or names a class that does not exist.
    """
    if form.value not in task.forms:
        raise InputError(
            f"[submission] value = '{form.value}' does not apply to task = '{task.kind}'; choose one of "
            f"{', '.join(task.forms)}"
        )
    given = task.decide(predictions, rule) if form.value in DECIDED else predictions
    columns = FORMS[form.value](task, given, form)
    if len(columns) != len(form.columns):
        raise InputError(
            f"[submission] value = '{form.value}' fills one column, but {len(form.columns)} are asked for: "
            f"{listed(form.columns)}"
        )
    return pd.DataFrame(dict(zip(form.columns, columns, strict=True)), dtype=str)


def listed(names: list[str]) -> str:
    """The first names, and how many there are."""
    return ", ".join(names[:8]) + (f", ... ({len(names)})" if len(names) > 8 else "")
