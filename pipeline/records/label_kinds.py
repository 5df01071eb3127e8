"""Finds the kind of task that labels are for, as far as they leave no doubt.

Legend: N rows, L columns of labels; cells (N, L) text.
"""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from pipeline.records.competition import OWN_METRIC, Competition
from pipeline.system.errors import InputError
from pipeline.tasks.kinds import TASKS
from pipeline.tasks.metrics import find_metric
from pipeline.tasks.regression import number

#: Separators that are tried. The unsure ones are common in the names of classes too, so that they only raise a doubt.
SEPARATORS, UNSURE = (" ", ",", ";", "|", "+", "/", "&"), ("_", "-")
#: Up to FEW_VALUES different numbers with decimals may be classes; more than MANY_VALUES whole numbers may be amounts.
FEW_VALUES, MANY_VALUES = 12, 30
#: Start of a doubt.
CLASSES = "the labels are read as classes without an order"
#: Share of the names that must occur in several combinations, for labels to be read as combinations without a doubt.
RECURRING = 0.8


class Kind(NamedTuple):
    """The kind of task that was found.

    name: name of the kind
    separator: between several names or numbers in a label
    reason: why it was chosen, for the user; "" if competition.toml says so or nothing else is possible
    doubt: what else it might be, for the user; "" for nothing
    """

    name: str
    separator: str = " "
    reason: str = ""
    doubt: str = ""


def possible_kinds(competition: Competition) -> list[str]:
    """The kinds of tasks that have the competition's metric and form of submission."""
    if competition.task:
        return [competition.task]
    metric, form = competition.metric, competition.submission
    has_metric = [
        name
        for name, task in TASKS.items()
        if metric is None or OWN_METRIC.fullmatch(metric) or any(find_metric(metric, of) for of in task.compares)
    ]
    found = [name for name in has_metric if form is None or form.value is None or form.value in TASKS[name].forms]
    if not found:
        assert form is not None
        raise InputError(
            f"metric = '{metric}' is for task = {' or '.join(map(repr, has_metric))}, which cannot be submitted with "
            f"value = '{form.value}'; correct one of them in competition.toml"
        )
    return found


def find_kind(cells: pd.DataFrame, competition: Competition, sample: pd.DataFrame | None) -> Kind:
    """The kind of task of labels (N, L); raises FoldwiseError if they do not fit the competition.

    sample: columns of the sample submission after the id, if there is one
    """
    possible, given = possible_kinds(competition), competition.train.label_separator
    if len(cells.columns) > 1:
        cells = cells.apply(lambda column: column.str.strip())
    kind = kind_of_columns(cells) if len(cells.columns) > 1 else kind_of_cells(cells.iloc[:, 0], possible, sample)
    if kind == Kind("classification") and competition.metric == "quadratic_kappa" and "ordinal" in possible:
        kind = Kind("classification", doubt=f"{CLASSES}; if they are grades, set task = 'ordinal' in competition.toml")
    if kind.name == "classification" and len(cells.columns) > 1 and "classification" not in possible:
        kind = kind._replace(name="multilabel", reason="the metric or the submission is for several labels")
    if given is not None:
        if "multilabel" not in possible:
            raise InputError(
                f"[train] label_separator has an effect only with several labels, not with task = '{possible[0]}'; "
                "remove it, or set task = 'multilabel'"
            )
        kind = Kind("multilabel", given)
    if competition.task is not None:
        separator = given or (kind.separator if competition.task == "multilabel" else " ")
        # Ones and zeros, also with a single 1 in each row, can be several labels, or numbers.
        fits = {"classification": {*TASKS}, "multilabel": {"multilabel", "regression"}}.get(kind.name, set())
        if len(cells.columns) > 1 and competition.task not in {kind.name, *fits}:
            raise InputError(
                f"the columns {', '.join(cells.columns[:4])} hold labels for task = '{kind.name}' ({kind.reason}), but "
                f"competition.toml says task = '{competition.task}'; correct one of them"
            )
        return Kind(competition.task, separator)
    if kind.name not in possible:
        raise InputError(
            f"the labels are for task = '{kind.name}' ({kind.reason or 'each is one class'}), but metric and value in "
            f"competition.toml are for task = {' or '.join(map(repr, possible))}; correct them, or set task"
        )
    return kind


def kind_of_columns(cells: pd.DataFrame) -> Kind:
    """The kind of several columns of labels: one class or several by 0 and 1, or numbers."""
    if cells.isin(["0", "1", "0.0", "1.0"]).all(axis=None):
        ones = cells.astype(float).sum(axis=1)
        separator = next((mark for mark in SEPARATORS if not any(mark in name for name in cells.columns)), "\t")
        if (ones == 1).all():
            return Kind("classification", separator, "each row has the number 1 in exactly one of the label columns")
        return Kind("multilabel", separator, "the label columns hold 0 and 1, and not exactly one 1 in each row")
    wrong = next(((row, name) for name in cells for row, text in enumerate(cells[name]) if number(text) is None), None)
    if wrong is None:
        return Kind("regression", " ", "the label columns hold numbers")
    raise InputError(
        f"label_columns must hold 0 and 1, or numbers, but '{wrong[1]}' has '{cells[wrong[1]].iloc[wrong[0]]}'; "
        "correct the CSV, or label_columns in competition.toml"
    )


def kind_of_cells(cells: pd.Series, possible: list[str], sample: pd.DataFrame | None) -> Kind:
    """The kind of one column of labels (N,), as far as labels, sample and the possible kinds leave no doubt."""
    distinct = pd.Series(cells[cells != ""].unique(), dtype=str)
    numbers = distinct.map(number).astype(float)
    others = distinct[numbers.isna()]
    if 0 < len(others) <= 2 and len(distinct) >= 8 and "classification" in possible:
        doubt = f"{CLASSES}, since '{others.iloc[0]}' is not a number; if they are amounts, set task = 'regression' in"
        return Kind("classification", doubt=f"{doubt} competition.toml")
    if len(distinct) and numbers.notna().all() and {"regression", "ordinal", "classification"} & set(possible):
        return kind_of_numbers(numbers, possible, sample)
    separator, is_certain = separator_of(distinct)
    if "classification" not in possible and "multilabel" in possible:
        return Kind("multilabel", separator or " ", "the metric or the submission is for several labels")
    if separator and "multilabel" in possible:
        example = next(cell for cell in distinct if separator in cell)
        if is_certain:
            return Kind("multilabel", separator, f"labels such as '{example}' combine names that occur elsewhere too")
        doubt = f"labels such as '{example}' are read as names of classes; if they are several labels, set task = "
        return Kind("classification", doubt=doubt + "'multilabel' in competition.toml")
    return Kind("classification")


def kind_of_numbers(numbers: pd.Series, possible: list[str], sample: pd.DataFrame | None) -> Kind:
    """The kind of labels that are numbers; numbers: the different ones."""
    if "classification" not in possible:
        is_regression = "regression" in possible
        return Kind("regression" if is_regression else "ordinal", reason="the metric or the submission is for numbers")
    whole = bool((numbers % 1 == 0).all())
    if "regression" in possible:
        if not whole and len(numbers) > FEW_VALUES:
            return Kind("regression", reason="the labels are numbers with decimals")
        if sample is not None and len(sample.columns) == 1:
            submitted = sample.iloc[:, 0].map(number).astype(float).dropna()
            if ((submitted % 1 != 0) & ((submitted < 0) | (submitted > 1))).any():
                return Kind("regression", reason="the sample submission has numbers with decimals")
    doubt = f"{CLASSES}; if they are amounts, set task = 'regression' in competition.toml"
    return Kind("classification", doubt=doubt if "regression" in possible and len(numbers) > MANY_VALUES else "")


def separator_of(distinct: pd.Series) -> tuple[str, bool]:
    """The separator of several names in a label, "" if there is none, and whether this is certain.

    It is certain if the labels have different numbers of names, most of the names occur in several of the labels, and
    there are fewer names than labels.
    """
    if (
        len(distinct) and (distinct.str.startswith("[") & distinct.str.endswith("]")).all()
    ):  # lists as Python writes them
        return ",", True
    found: dict[bool, list[tuple[int, str]]] = {True: [], False: []}
    for mark in (*SEPARATORS, *UNSURE):
        split = distinct.map(lambda cell, mark=mark: frozenset(parts_of(cell, mark)))
        several = split[split.map(len) > 1]
        if several.empty:
            continue
        in_labels = pd.Series([name for names in set(split) for name in names]).value_counts()
        of_several = in_labels[list(frozenset().union(*several))]
        recur = float((of_several > 1).mean())
        varies = split.map(len).nunique() > 1
        if recur > 0:
            needed = RECURRING if len(several) > 1 else 1
            is_certain = varies and recur >= needed and len(in_labels) < len(distinct)
            if mark not in UNSURE or is_certain:
                found[is_certain and mark not in UNSURE].append((len(in_labels), mark))
    best = min(found[True] or found[False] or [(0, "")])[1]  # the one that leaves the fewest names
    return best, bool(found[True])


def parts_of(cell: str, mark: str) -> list[str]:
    """The names in a label that are separated by a mark; also of a list as Python writes it, ``['a', 'b']``."""
    if cell.startswith("[") and cell.endswith("]"):
        return [name for part in cell[1:-1].split(mark) if (name := part.strip().strip("'\""))]
    return [name for part in cell.split(mark) if (name := part.strip())]
