"""Reads, checks and writes CSV files: manifest.csv, folds.csv, and those of the user. Ids are strings.

The rows of the manifest are in a fixed order: train before test, each sorted by id as in ``sorted_ids``.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from pipeline.system.errors import InputError, StaleError, count_of, suggestion
from pipeline.system.files import atomic_path
from pipeline.system.places import shown

MANIFEST_COLUMNS = ["image_id", "path", "split", "label", "group", "width", "height", "sha256"]
FOLDS_COLUMNS = ["image_id", "label", "group", "fold"]


def read_csv(path: Path, columns: Iterable[str] = (), header: list[str] | None = None) -> pd.DataFrame:
    """Reads a CSV with every cell as unchanged text (``007``, ``NA``, ``1e5``).

    columns: columns that the file must have
    header: names of the columns if the file has no header line; [] to number them

    Raises FoldwiseError if the file is not a CSV, is empty, has a column name twice or a row that is too short, or
    lacks one of ``columns``.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig", header=None)
    except FileNotFoundError as error:
        raise InputError(f"there is no {shown(path)}") from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise InputError(f"{shown(path)} is not a readable CSV file: {' '.join(str(error).split())}") from error
    short = table.index[table.isna().any(axis=1)]
    if len(short):
        raise InputError(f"{shown(path)} row {short[0] + 1} has fewer cells than the longest row; correct it")
    only = str(table.iloc[0, 0]) if len(table.columns) == 1 else ""
    if mark := next((mark for mark in (";", "\t") if mark in only), ""):
        name = {"\t": "tabs"}.get(mark, f"'{mark}'")
        raise InputError(f"the columns of {shown(path)} are separated by {name}; save it with commas")
    if header is None:
        header = list(table.iloc[0])
        table = table.iloc[1:].reset_index(drop=True)
    elif not header:
        header = [str(position) for position in range(len(table.columns))]
    elif len(header) != len(table.columns):
        raise InputError(f"{shown(path)} has {len(table.columns)} columns, not {len(header)}")
    table = table.set_axis(header, axis=1)
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise InputError(f"{shown(path)} has the column '{twice[0]}' twice")
    require_columns(table, columns, path)
    return table


def require_columns(table: pd.DataFrame, columns: Iterable[str], path: Path) -> None:
    """Raises FoldwiseError if a table that was read from ``path`` lacks one of the columns."""
    for column in columns:
        if column not in table.columns:
            raise InputError(f"{shown(path)} has no column '{column}'{suggestion(column, table.columns)}")


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Writes a table atomically, with the same bytes on every operating system."""
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n", float_format="%.8g")


def require_written_by_foldwise(path: Path, columns: Iterable[str], record: Path) -> None:
    """Raises FoldwiseError if a stage would replace a file that Foldwise has not written.

    This is so if the header of the file differs from ``columns`` and there is no ``record`` of the stage.
    """
    header = ",".join(columns)
    if record.exists() or not path.is_file() or not path.stat().st_size:
        return
    with path.open("rb") as file:
        found = file.read(len(header) + 1).rstrip(b"\r\n").decode(errors="replace")
    if found != header:
        raise InputError(f"{shown(path)} would be replaced, but Foldwise has not written it; rename it")


def sorted_ids(ids: Iterable[str]) -> list[str]:
    """Ids sorted as numbers if all of them are numbers (1, 2, 10), else as text."""
    ids = list(ids)
    if all(name.isascii() and name.isdecimal() for name in ids):
        return sorted(ids, key=lambda name: (int(name), name))
    return sorted(ids)


def require_unique(ids: pd.Series, what: str) -> None:
    """Raises FoldwiseError if an id occurs twice."""
    twice = ids[ids.duplicated()]
    if len(twice):
        raise InputError(f"{what} contains the id '{twice.iloc[0]}' more than once ({count_of(len(twice), 'repeat')})")


def require_same_ids(expected: Iterable[str], found: Iterable[str], what: str, advice: str) -> None:
    """Raises FoldwiseError, with the first ids that differ, unless ``found`` has the expected ids, each once.

    what: what ``found`` is from; start of the message
    advice: end of the message
    """
    wanted, given = pd.Series(list(expected), dtype=str), pd.Series(list(found), dtype=str)
    require_unique(given, what)
    missing, extra = wanted[~wanted.isin(given)], given[~given.isin(wanted)]
    if len(missing) or len(extra):
        differences = [
            f"{count_of(len(ids), 'id')} {word} (such as '{ids.iloc[0]}')"
            for ids, word in ((missing, "missing"), (extra, "too many"))
            if len(ids)
        ]
        raise InputError(f"{what} does not have the expected ids: {' and '.join(differences)}; {advice}")


def require_made(path: Path, stage: str) -> None:
    """Raises FoldwiseError if the file of a stage does not exist."""
    if not path.exists():
        raise StaleError(f"there is no {shown(path)}; run the {stage} stage first (make {stage})")


def read_manifest(path: Path) -> pd.DataFrame:
    """Reads the manifest, with width and height as int (0 for a test image that cannot be read).

    Raises FoldwiseError, with the row and the cell, for a value that the manifest stage would not write.
    """
    require_made(path, "manifest")
    table = read_csv(path, MANIFEST_COLUMNS)
    forms = {"split": "train|test", "width": r"\d{1,9}", "height": r"\d{1,9}", "sha256": "([0-9a-f]{64})?"}
    for column, form in forms.items():
        wrong = table[~table[column].str.fullmatch(form)]
        if len(wrong):
            raise StaleError(
                f"{shown(path)} row {wrong.index[0] + 2}: {column} cannot be '{wrong[column].iloc[0]}'; delete the "
                "file and run the manifest stage again"
            )
    for split, rows in table.groupby("split"):
        require_unique(rows["image_id"], f"{shown(path)}, split {split},")
    return table.astype({"width": int, "height": int})


def read_folds(path: Path, num_folds: int, manifest: pd.DataFrame) -> pd.DataFrame:
    """Reads folds.csv, with fold as int.

    Raises FoldwiseError unless it has every fold from 0 to ``num_folds`` - 1, and each train image of the manifest once
    with the same label.
    """
    require_made(path, "folds")
    table = read_csv(path, FOLDS_COLUMNS)
    train = manifest[manifest["split"] == "train"]
    require_same_ids(train["image_id"], table["image_id"], shown(path), "run the folds stage again")
    labels = table["image_id"].map(train.set_index("image_id")["label"])
    wrong = table.index[labels != table["label"]]
    if len(wrong):
        raise StaleError(
            f"{shown(path)} row {wrong[0] + 2}: the label is '{table['label'][wrong[0]]}', but '{labels[wrong[0]]}' in "
            "the manifest; run the folds stage again"
        )
    table["fold"] = fold_numbers(table["fold"], num_folds, path)
    return table


def fold_numbers(texts: pd.Series, num_folds: int, path: Path) -> pd.Series:
    """Fold numbers (int) from text; raises FoldwiseError unless they are exactly 0 to ``num_folds`` - 1."""
    wrong = texts[~texts.str.fullmatch(r"[0-9]{1,9}")]
    if len(wrong):
        raise InputError(
            f"{shown(path)} row {wrong.index[0] + 2}: fold '{wrong.iloc[0]}' is not a number from 0 to {num_folds - 1}"
        )
    folds = texts.astype(int)
    found = sorted(set(folds))
    if found != list(range(num_folds)):
        raise InputError(
            f"{shown(path)} contains the folds {', '.join(map(str, found))}, but [folds] n = {num_folds} "
            f"needs 0 to {num_folds - 1}"
        )
    return folds
