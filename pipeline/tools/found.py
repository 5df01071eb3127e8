"""What make new has found in the files of a competition, and which columns of a CSV hold labels and groups."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple

import pandas as pd

from pipeline.tasks.regression import number

#: Names of columns: of labels, and of groups.
LABEL = re.compile(r"label|class|target|species|breed|diagnosis|category|kind|type|grade|score|disease|tags", re.I)
GROUP = re.compile(r"patient|subject|driver|person|group|study|site|scene|session|slide|lesion_id|volunteer", re.I)


class Folder(NamedTuple):
    """A folder with images in it or below.

    base: "raw" or "images"
    name: as competition.toml names it: the path below the base; that of the base itself for the base
    images: number of images in it and below
    depth: number of folders above it, 0 for the base
    """

    base: str
    name: str
    images: int
    depth: int

    def holds(self, other: Folder) -> bool:
        """True if the other folder lies in this one."""
        return self.base == other.base and (self.depth == 0 < other.depth or other.name.startswith(f"{self.name}/"))


class Ids(NamedTuple):
    """The column of a CSV that names image files.

    table: name of the CSV
    column: name of the column
    file_name: how the files are named; "" if the ids are their names
    share: share of the tried ids that have a file
    """

    table: str
    column: str
    file_name: str
    share: float


@dataclass
class Found:
    """What was found; "" or [] for nothing.

    train, test: folders of the images
    labels: "folders", the name of a CSV, or "" for the pattern
    ids: where the CSV of labels has the ids
    test_ids: where the ids to predict are
    test_has_classes: True if the test images are in the same class folders, so that their labels are known
    sample: name of the sample submission
    label_column: the column with the labels, if it must be named
    group_column: a column with groups
    pattern: of the names of the train images
    doubts: keys that are guesses, with the other possibilities
    """

    train: list[str] = field(default_factory=list)
    test: list[str] = field(default_factory=list)
    labels: str = ""
    ids: Ids | None = None
    test_ids: Ids | None = None
    test_has_classes: bool = False
    sample: str = ""
    label_column: str = ""
    group_column: str = ""
    pattern: str = ""
    doubts: dict[str, str] = field(default_factory=dict)


def words_of(sample: pd.DataFrame | None) -> set[str]:
    """Names in the cells of a sample submission of two columns; numbers tell nothing."""
    if sample is None or len(sample.columns) != 2:
        return set()
    words = {word for cell in sample.iloc[:50, 1] for word in (cell, *cell.split())}
    return {word for word in words if number(word) is None}


def showing(table: pd.DataFrame, words: set[str]) -> list[str]:
    """The columns of a CSV that hold most of the words."""
    return [name for name in table.columns if len(words & {*table[name]}) > len(words) / 2]


def choose_columns(found: Found, tables: dict[str, pd.DataFrame]) -> None:
    """Chooses the columns of labels and of groups."""
    assert found.ids is not None
    table = tables[found.labels]
    others = [name for name in table.columns if name != found.ids.column]
    sample = tables.get(found.sample)
    wanted = list(sample.columns[1:]) if sample is not None else []
    repeated = [name for name in others if 2 < table[name].nunique() < len(table) and name not in wanted]
    groups = [name for name in repeated if GROUP.search(name)]
    if groups:
        found.group_column = groups[0]
        found.doubts["group_column"] = "remove this, if the test set shares them"
        others = [name for name in others if name != groups[0]]
    if wanted and {*wanted} <= {*others}:
        found.label_column = wanted[0] if len(wanted) == 1 < len(others) else ""
        return  # without it, the manifest stage takes the columns with the names of the submission's
    as_classes = [name for name in others if len(wanted) > 1 and {*table[name]} <= {*wanted}]
    if words := words_of(sample):
        as_classes = showing(table[others], words)
    same_case = [name for name in others if wanted and name.lower() == wanted[0].lower()]
    named = [name for name in others if LABEL.search(name)]
    choice = next((names[0] for names in (as_classes, same_case, named, others) if names), "")
    if choice and len(others) > 1:
        found.label_column = choice
        if not as_classes and not same_case:
            found.doubts["label_column"] = " or ".join(name for name in others if name != choice)[:80]
