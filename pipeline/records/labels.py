"""Reads labels: finds the kind of task that they are for, and writes them as the manifest has them.

In the manifest, a label is a class, several classes between separators in the order of the classes, or numbers.

Legend: N rows, L columns of labels; cells (N, L) text.
"""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from pipeline.records.competition import OWN_METRIC, Competition, checked_label
from pipeline.records.problems import Problem
from pipeline.records.tables import sorted_ids
from pipeline.system.console import say
from pipeline.system.errors import InputError
from pipeline.tasks.kinds import TASKS
from pipeline.tasks.metrics import find_metric
from pipeline.tasks.regression import number
from pipeline.tasks.task import Task

#: Separators that are tried, in this order.
SEPARATORS = (" ", ",", ";", "|")
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
    kind = kind_of_columns(cells) if len(cells.columns) > 1 else kind_of_cells(cells.iloc[:, 0], possible, sample)
    if kind == Kind("classification") and competition.metric == "quadratic_kappa" and "ordinal" in possible:
        kind = Kind("classification", doubt=f"{CLASSES}; if they are grades, set task = 'ordinal' in competition.toml")
    if given is not None and "multilabel" in possible:
        kind = Kind("multilabel", given)
    if competition.task is not None:
        separator = given or (kind.separator if competition.task == "multilabel" else " ")
        # Ones and zeros, also with a single 1 in each row, can be several labels, or numbers.
        fits = {"classification": {"multilabel", "regression"}, "multilabel": {"regression"}}.get(kind.name, set())
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
        f"label_columns must hold 0 and 1, or numbers, but row {wrong[0] + 2} has '{cells[wrong[1]][wrong[0]]}' in "
        f"'{wrong[1]}'; correct the CSV, or label_columns in competition.toml"
    )


def kind_of_cells(cells: pd.Series, possible: list[str], sample: pd.DataFrame | None) -> Kind:
    """The kind of one column of labels (N,), as far as labels, sample and the possible kinds leave no doubt."""
    distinct = pd.Series(cells[cells != ""].unique(), dtype=str)
    numbers = distinct.map(number).astype(float)
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
        of_sample = pd.Series(dtype=float) if sample is None else sample.iloc[:, 0].map(number).astype(float).dropna()
        has_decimals = ((of_sample % 1 != 0) & ((of_sample < 0) | (of_sample > 1))).any()
        if sample is not None and len(sample.columns) == 1 and has_decimals:
            return Kind("regression", reason="the sample submission has numbers with decimals")
    doubt = f"{CLASSES}; if they are amounts, set task = 'regression' in competition.toml"
    return Kind("classification", doubt=doubt if "regression" in possible and len(numbers) > MANY_VALUES else "")


def separator_of(distinct: pd.Series) -> tuple[str, bool]:
    """The separator of several names in a label, "" if there is none, and whether this is certain.

    It is certain if the labels have different numbers of names, most of the names occur in several of the labels, and
    there are fewer names than labels.
    """
    found: dict[bool, list[tuple[int, str]]] = {True: [], False: []}
    for mark in SEPARATORS:
        split = distinct.map(lambda cell, mark=mark: frozenset(part.strip() for part in cell.split(mark)) - {""})
        several = split[split.map(len) > 1]
        if len(several) < 2:
            continue
        in_labels = pd.Series([name for names in set(split) for name in names]).value_counts()
        of_several = in_labels[list(frozenset().union(*several))]
        recur = float((of_several > 1).mean())
        varies = split.map(len).nunique() > 1
        if recur > 0:
            is_certain = varies and recur >= RECURRING and len(in_labels) < len(distinct)
            found[is_certain].append((len(in_labels), mark))
    best = min(found[True] or found[False] or [(0, "")])[1]  # the one that leaves the fewest names
    return best, bool(found[True])


def names_of(cells: pd.DataFrame, kind: Kind, competition: Competition) -> list[str] | None:
    """The names of the targets; None for those of the classes that occur in the end."""
    if len(cells.columns) > 1:
        columns = list(cells.columns)
        if competition.classes and sorted(competition.classes) != sorted(columns):
            raise InputError(f"classes in competition.toml must be the label columns, {', '.join(columns)}")
        return competition.classes or columns
    if kind.name == "regression":
        if competition.classes:
            raise InputError("classes has no effect for task = 'regression'; remove it from competition.toml")
        return list(cells.columns)
    if kind.name == "multilabel":
        return competition.classes or sorted_ids({name for cell in cells.iloc[:, 0] for name in split(cell, kind)})
    return competition.classes


def split(cell: str, kind: Kind) -> list[str]:
    """The different names in a label, in their order."""
    return list(dict.fromkeys(name for part in cell.split(kind.separator) if (name := part.strip())))


def as_in_manifest(cells: pd.DataFrame, kind: Kind, names: list[str] | None) -> pd.Series:
    """The labels (N,) as the manifest has them, from cells (N, L)."""
    if kind.name == "regression":
        return cells.agg(" ".join, axis=1) if len(cells.columns) > 1 else cells.iloc[:, 0].str.strip()
    if len(cells.columns) > 1:
        assert names is not None
        ones = cells[names].astype(float).to_numpy() > 0
        return pd.Series(
            [kind.separator.join(name for name, has in zip(names, row, strict=True) if has) for row in ones]
        )
    if kind.name != "multilabel":
        return cells.iloc[:, 0]
    place = {name: number for number, name in enumerate(names or [])}
    parts = [sorted(split(cell, kind), key=lambda name: place.get(name, len(place))) for cell in cells.iloc[:, 0]]
    return pd.Series([kind.separator.join(part) for part in parts], index=cells.index, dtype=str)


def check_labels(table: pd.DataFrame, kind: Kind, classes: list[str] | None) -> tuple[pd.DataFrame, list[Problem]]:
    """The rows whose label is valid, with the spelling of the classes; and the problems found.

    table: has the columns name and label
    """
    if kind.name == "regression":
        wrong = [any(number(part) is None for part in label.split(kind.separator)) for label in table["label"]]
        bad = table[wrong]
        if len(bad) == len(table) and len(table):
            raise InputError(
                f"task = 'regression' needs numbers, but the labels are such as '{table['label'].iloc[0]}'; set "
                "label_column, or label_columns for several numbers, in [train] of competition.toml"
            )
        problems = [
            Problem(name, "label is not a number", f"'{label}'") if label else Problem(name, "no label", "it is empty")
            for name, label in zip(bad["name"], bad["label"], strict=True)
        ]
        return table.drop(index=bad.index).reset_index(drop=True), problems
    problems = []
    if kind.name != "multilabel":
        problems = [Problem(name, "no label", "its label is empty") for name in table["name"][table["label"] == ""]]
        table = table[table["label"] != ""]
    if classes is None:
        return table.reset_index(drop=True), problems
    meaning = {label: meant(label, kind, classes) for label in table["label"].unique()}
    meanings = [meaning[label] for label in table["label"]]
    for name, label, known in zip(table["name"], table["label"], meanings, strict=True):
        if known is None:
            problems.append(Problem(name, "label outside classes", f"'{label}' is not one of {', '.join(classes)}"))
        elif known != label:
            problems.append(Problem(name, "label in different case", f"'{label}' is read as '{known}'"))
    kept = [label is not None for label in meanings]
    return table.assign(label=meanings)[kept].reset_index(drop=True), problems


def meant(label: str, kind: Kind, classes: list[str]) -> str | None:
    """The label with the spelling of the classes; None if it, or a part of it, is not a class."""
    if kind.name != "multilabel":
        return checked_label(label, classes)
    found = [checked_label(name, classes) for name in split(label, kind)]
    known = [name for name in found if name is not None]
    return kind.separator.join(known) if len(known) == len(found) else None


def require_variety(labels: pd.Series, task: Task, competition: Competition) -> None:
    """Raises FoldwiseError if nothing can be learnt from the labels (N,), or if the grades have no order."""
    if labels.nunique() < 2:
        advice = "at least two classes are needed" if task.kind != "regression" else "there is nothing to learn"
        raise InputError(f"all train images have the label '{labels.iloc[0]}'; {advice}")
    is_ordered = competition.classes is not None or all(number(name) is not None for name in task.target_names)
    if task.kind == "ordinal" and not is_ordered:
        raise InputError(
            f"the grades {', '.join(task.target_names)} are not numbers, so their order is not known; set classes in "
            "competition.toml to the grades, from the lowest to the highest"
        )


def task_of(kind: Kind, target_names: list[str] | None, table: pd.DataFrame) -> Task:
    """The task of these labels; without names, the targets are the labels that occur, sorted."""
    return TASKS[kind.name](target_names or sorted_ids(table["label"].unique()), kind.separator)


def explain(kind: Kind, task: Task) -> None:
    """Says which kind of task was found, if competition.toml does not name it and it is not the common case."""
    if kind.reason:
        say("manifest", f"task = '{kind.name}', as {kind.reason}; if that is wrong, set task in competition.toml")
    if kind.doubt:
        say("manifest", f"note: {kind.doubt}")


def some_of_each(table: pd.DataFrame, task: Task, competition: Competition) -> pd.DataFrame:
    """The first rows of each class, for a dry run: about 40 in all, and enough for every fold."""
    by_name = task.members(table["label"])
    number = max(competition.folds.n, 40 // max(1, len(by_name)))
    rows = sorted({int(row) for rows in by_name.values() for row in rows[:number]})
    return table.iloc[rows].reset_index(drop=True)
