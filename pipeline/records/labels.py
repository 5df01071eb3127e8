"""Writes labels as the manifest has them, and checks them.

In the manifest, a label is a class, several classes between separators in the order of the classes, or numbers.

Legend: N rows, L columns of labels; cells (N, L) text.
"""

from __future__ import annotations

import pandas as pd

from pipeline.records.competition import Competition, checked_label
from pipeline.records.label_kinds import Kind, parts_of
from pipeline.records.problems import Problem
from pipeline.records.spelling import look_alikes, plain
from pipeline.records.tables import sorted_ids
from pipeline.system.console import say
from pipeline.system.errors import InputError, count_of
from pipeline.tasks.kinds import TASKS
from pipeline.tasks.regression import number
from pipeline.tasks.task import Task


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
    return list(dict.fromkeys(map(plain, parts_of(cell, kind.separator))))


def as_in_manifest(cells: pd.DataFrame, kind: Kind, names: list[str] | None) -> pd.Series:
    """The labels (N,) as the manifest has them, from cells (N, L)."""
    if kind.name == "regression":
        return cells.apply(lambda column: column.str.strip()).agg(" ".join, axis=1)
    if len(cells.columns) > 1:
        assert names is not None
        ones = cells[names].apply(lambda column: column.str.strip()).astype(float).to_numpy() > 0
        return pd.Series(
            [kind.separator.join(name for name, has in zip(names, row, strict=True) if has) for row in ones]
        )
    if kind.name != "multilabel":
        return cells.iloc[:, 0].map(plain)
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
            how = "different case" if label.casefold() == known.casefold() else "another spelling"
            problems.append(Problem(name, f"label in {how}", f"'{label}' is read as '{known}'"))
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
        advice += "; correct label_column, labels or pattern in [train]"
        raise InputError(f"all train images have the label '{labels.iloc[0]}'; {advice}")
    values = [number(name) for name in task.target_names]
    if task.kind == "ordinal" and competition.classes is None and None not in values and len({*values}) < len(values):
        twice = next(name for name, value in zip(task.target_names, values, strict=True) if values.count(value) > 1)
        raise InputError(f"the grade '{twice}' is written in two ways, such as 1 and 1.0; correct the labels")
    is_ordered = competition.classes is not None or None not in values
    if task.kind == "ordinal" and not is_ordered:
        raise InputError(
            f"the grades {', '.join(task.target_names)} are not numbers, so their order is not known; set classes in "
            "competition.toml to the grades, from the lowest to the highest"
        )


def task_of(kind: Kind, target_names: list[str] | None, table: pd.DataFrame) -> Task:
    """The task of these labels; without names, the targets are the labels that occur, sorted."""
    names = target_names or sorted_ids(table["label"].unique())
    if kind.name == "ordinal" and target_names is None and all(number(name) is not None for name in names):
        names = sorted(names, key=float)
    return TASKS[kind.name](names, kind.separator)


def explain(kind: Kind, task: Task) -> None:
    """Says which kind of task was found, if competition.toml does not name it and it is not the common case.

    Also says if there are classes with names that look alike.
    """
    if kind.reason:
        say("manifest", f"task = '{kind.name}', as {kind.reason}; if that is wrong, set task in competition.toml")
    if kind.doubt:
        say("manifest", f"note: {kind.doubt}")
    for names in look_alikes(task.target_names) if task.kind != "regression" else []:
        listed = " and ".join(f"'{name}'" for name in names)
        say(
            "manifest",
            f"WARNING: {listed} are different classes, but their names look alike; if they are one class, set classes "
            "in competition.toml to the right names, and the others are read as these",
        )


def note_blanks(cells: pd.DataFrame) -> None:
    """Says if labels are read without the blanks at their ends, or in another form of Unicode, in one column (N, 1)."""
    if len(cells.columns) > 1:
        return
    changed = [label for label in cells.iloc[:, 0] if label != plain(label)]
    if changed:
        say(
            "manifest",
            f"note: {count_of(len(changed), 'label')} with blanks at an end, or in another form of Unicode, such as "
            f"{changed[0]!r}, read as '{plain(changed[0])}'",
        )


def some_of_each(table: pd.DataFrame, task: Task, competition: Competition) -> pd.DataFrame:
    """The first rows of each class, for a dry run: about 40 in all, and enough for every fold."""
    by_name = task.members(table["label"])
    number = max(competition.folds.n, 40 // max(1, len(by_name)))
    rows = sorted({int(row) for rows in by_name.values() for row in rows[:number]})
    return table.iloc[rows].reset_index(drop=True)
