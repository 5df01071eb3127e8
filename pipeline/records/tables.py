"""The tables that stages meet in: manifest.csv and folds.csv, and any CSV of a user's. Ids are strings.

Legend: manifest rows are in a stable order, train before test, ids that are numbers sorted as numbers.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.records.errors import FoldwiseError, count_of, nearest
from pipeline.records.files import write_text
from pipeline.records.paths import shown

MANIFEST_COLUMNS = ["image_id", "path", "split", "label", "group", "width", "height", "sha256"]
FOLDS_COLUMNS = ["image_id", "label", "group", "fold"]


def read_csv(path: Path, columns: Iterable[str] = ()) -> pd.DataFrame:
    """A CSV with every cell as the text it is (``007``, ``NA``, ``1e5``); raises FoldwiseError when it is none,
    is empty, repeats a header, or lacks one of ``columns``."""
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig", header=None)
    except FileNotFoundError as error:
        raise FoldwiseError(f"there is no {shown(path)}") from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise FoldwiseError(f"{shown(path)} is not a readable CSV file: {str(error).strip()}") from error
    header = list(table.iloc[0])
    table = table.iloc[1:].reset_index(drop=True).set_axis(header, axis=1)
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise FoldwiseError(f"{shown(path)} has the column '{twice[0]}' twice")
    for column in columns:
        if column not in header:
            raise FoldwiseError(f"{shown(path)} has no column '{column}'{nearest(column, header)}")
    return table


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Writes a table atomically, the same bytes on every system."""
    write_text(path, table.to_csv(index=False, lineterminator="\n", float_format="%.8g"))


def sorted_ids(ids: Iterable[str]) -> list[str]:
    """Ids in the order a person expects: 1, 2, 10 when all are numbers, as text otherwise."""
    ids = list(ids)
    if all(name.isascii() and name.isdecimal() for name in ids):
        return sorted(ids, key=lambda name: (int(name), name))
    return sorted(ids)


def require_unique(ids: pd.Series, what: str) -> None:
    """Raises FoldwiseError when an id occurs twice."""
    twice = ids[ids.duplicated()]
    if len(twice):
        raise FoldwiseError(f"{what} holds the id '{twice.iloc[0]}' more than once ({count_of(len(twice), 'repeat')})")


def require_same_ids(expected: Iterable[str], found: Iterable[str], what: str, advice: str) -> None:
    """Raises FoldwiseError unless both hold the same ids, each once; the sentence names the first that differ."""
    wanted, given = pd.Series(list(expected), dtype=str), pd.Series(list(found), dtype=str)
    require_unique(given, what)
    missing, extra = wanted[~wanted.isin(given)], given[~given.isin(wanted)]
    if len(missing) or len(extra):
        said = [
            f"{count_of(len(ids), 'id')} {word} (such as '{ids.iloc[0]}')"
            for ids, word in ((missing, "missing"), (extra, "too many"))
            if len(ids)
        ]
        raise FoldwiseError(f"{what} does not fit: {' and '.join(said)}; {advice}")


def read_manifest(path: Path) -> pd.DataFrame:
    """The manifest with width and height (int, 0 for a test image that cannot be read)."""
    table = read_csv(path, MANIFEST_COLUMNS)
    try:
        return table.astype({"width": int, "height": int})
    except ValueError as error:
        raise FoldwiseError(
            f"{shown(path)}: width and height are whole numbers, but {error}; delete it and run "
            "the manifest stage again"
        ) from error


def read_folds(path: Path, num_folds: int) -> pd.DataFrame:
    """Our folds.csv with fold (int), checked to hold every fold from 0 to ``num_folds`` - 1."""
    table = read_csv(path, FOLDS_COLUMNS)
    require_unique(table["image_id"], shown(path))
    table["fold"] = fold_numbers(table["fold"], num_folds, path)
    return table


def fold_numbers(texts: pd.Series, num_folds: int, path: Path) -> pd.Series:
    """Fold numbers (int) from text; raises FoldwiseError unless they are exactly 0 to ``num_folds`` - 1."""
    wrong = texts[~texts.str.fullmatch(r"\d+")]
    if len(wrong):
        raise FoldwiseError(f"{shown(path)} row {wrong.index[0] + 2}: fold '{wrong.iloc[0]}' is not a number from 0")
    folds = texts.astype(int)
    found = sorted(set(folds))
    if found != list(range(num_folds)):
        raise FoldwiseError(
            f"{shown(path)} holds the folds {', '.join(map(str, found))}, but [folds] n = {num_folds} "
            f"asks for 0 to {num_folds - 1}"
        )
    return folds


def class_names(train: pd.DataFrame, classes: list[str] | None) -> list[str]:
    """The classes in the order of every artifact: as the competition lists them, else the train rows' sorted."""
    return classes or sorted_ids(train["label"].unique())


def one_hot(labels: pd.Series, names: list[str]) -> np.ndarray:
    """Targets (N, C) float32 of class names."""
    positions = pd.Index(names).get_indexer(labels)
    if (positions < 0).any():
        raise FoldwiseError(f"the label '{labels.iloc[int((positions < 0).argmax())]}' is not one of the classes")
    return np.eye(len(names), dtype=np.float32)[positions]
