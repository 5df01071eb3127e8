"""Finds the label, group and id of each image by a pattern, a CSV, or class folders.

Legend: a name is a file's POSIX path relative to its images folder.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pandas as pd

from pipeline.formats.listing import list_files
from pipeline.records.competition import Test, Train
from pipeline.records.paths import Paths
from pipeline.records.problems import Problem, unmatched_problems
from pipeline.records.tables import read_csv, require_unique
from pipeline.system.console import say
from pipeline.system.errors import InputError, count_of
from pipeline.system.places import shown
from pipeline.system.signals import cpu_limit

#: Limit in CPU seconds for matching a pattern, and what each name adds to it; normally a name takes a microsecond.
MATCH_SECONDS, MATCH_SECONDS_EACH = 1.5, 2e-5


def list_images(paths: Paths, images: str, split: str) -> tuple[Path, list[str]]:
    """The folder that ``images`` in competition.toml names, and the names of its files.

    Raises FoldwiseError if it is missing or not a folder.
    """
    folder = paths.find(images)
    if not folder.is_dir():
        raise InputError(f"[{split}] images = '{images}': {shown(folder)} is not a folder")
    return folder, list_files(folder)


def require_some(names: list[str], folder: Path, split: str) -> None:
    """Raises FoldwiseError if the folder is empty."""
    if not names:
        raise InputError(f"[{split}] images: {shown(folder)} is empty; put the {split} images there")


def match_all(pattern: str, names: list[str], split: str, folder: Path) -> dict[str, dict[str, str]]:
    """The named groups of each name that the pattern matches.

    Raises FoldwiseError if it matches none, or if it takes too long: with nested repeats such as ``(a+)+``, the time
    can grow exponentially with the length of the name (Davis et al., 2018).
    """
    compiled = re.compile(pattern)
    matches, name = {}, ""
    try:
        with cpu_limit(MATCH_SECONDS + MATCH_SECONDS_EACH * len(names)):
            for name in names:
                if match := compiled.search(name):
                    matches[name] = match.groupdict()
    except TimeoutError:
        raise InputError(
            f"[{split}] pattern = '{pattern}' takes too long on the name '{name}'; simplify it in "
            "competition.toml, for example write a+ instead of (a+)+"
        ) from None
    if not matches:
        seen = ", ".join(f"'{name}'" for name in names[:3])
        raise InputError(
            f"[{split}] pattern = '{pattern}' matches none of the {count_of(len(names), 'file')} in {shown(folder)}, "
            f"such as {seen}; correct the pattern in competition.toml"
        )
    return matches


def files_by_id(names: list[str]) -> dict[str, str]:
    """The name of the file for each id that a CSV may use: the name with and without extension.

    An id that fits several files has the value "".
    """
    index = {name: name for name in names}
    for name in names:
        stem = without_extension(name)
        if index.setdefault(stem, name) != name:
            index[stem] = ""  # the files differ only in their extensions: the CSV must give the full name
    return index


def without_extension(name: str) -> str:
    """``frog/0001.png`` -> ``frog/0001``."""
    return str(PurePosixPath(name).with_suffix(""))


def table_from_csv(
    path: Path, id_column: str | None, names: list[str], folder: Path, has_header: bool = True
) -> tuple[pd.DataFrame, pd.Series, list[Problem]]:
    """The CSV, the file name of each row ("" if there is no such file), and a problem for each missing file."""
    table = read_csv(path, [id_column] if id_column else [], header=None if has_header else [])
    ids = table[id_column or table.columns[0]]
    require_unique(ids, shown(path))
    index = files_by_id(names)
    found = ids.map(lambda name: index.get(name, ""))
    detail = f"listed in {path.name}, but not in {shown(folder)}"
    return table, found, [Problem(name, "file missing", detail) for name in ids[found == ""]]


class Labelled(NamedTuple):
    """The labelled files: L columns of labels for N rows.

    table: name and group of each row
    labels: (N, L) text as it is written in the file names, the folders or the CSV
    """

    table: pd.DataFrame
    labels: pd.DataFrame


def train_table(
    source: Train, names: list[str], folder: Path, paths: Paths, wanted: Sequence[str] = ()
) -> tuple[Labelled, list[Problem]]:
    """The labelled files, and problems: files without label, CSV rows without file.

    wanted: names of the columns that are submitted, which are the label columns of the CSV if it has all of them
    """
    columns = ["name", "label", "group"]
    if source.labels == "folders":
        rows = [(name, name.split("/")[0], "") for name in names if "/" in name]
        if not rows:
            raise InputError(f"labels = 'folders' needs a folder for each class in {shown(folder)}; it has none")
        left = [name for name in names if "/" not in name]
        return labelled(pd.DataFrame(rows, columns=columns)), unmatched_problems(left, "not inside a class folder")
    if source.labels is None:
        assert source.pattern is not None
        matches = match_all(source.pattern, names, "train", folder)
        rows = [(name, groups["label"] or "", groups.get("group") or "") for name, groups in matches.items()]
        left = [name for name in names if name not in matches]
        return labelled(pd.DataFrame(rows, columns=columns)), unmatched_problems(left, "the pattern does not match it")

    path = paths.find(source.labels)
    read_csv(path, [column for column in (source.label_column, source.group_column) if column])
    table, found, problems = table_from_csv(path, source.id_column, names, folder)
    chosen = label_columns(source, table, path, wanted)
    has_file = (found != "").to_numpy()
    groups = table[source.group_column] if source.group_column else ""
    rows_of_csv = pd.DataFrame({"name": found}).assign(group=groups)[has_file].reset_index(drop=True)
    named = set(found)
    problems += [Problem(name, "no label", f"not listed in {path.name}") for name in names if name not in named]
    return Labelled(rows_of_csv, table.loc[has_file, chosen].reset_index(drop=True)), problems


def labelled(rows: pd.DataFrame) -> Labelled:
    """The labelled files from a table with the columns name, label and group."""
    return Labelled(rows[["name", "group"]], rows[["label"]])


def label_columns(source: Train, table: pd.DataFrame, path: Path, wanted: Sequence[str]) -> list[str]:
    """The columns of the CSV that hold the labels.

    These are the columns that competition.toml names; else those with the names of the submission's columns, if the CSV
    has all of them; else the first column that is neither the id nor the group. Prints which if it is not evident.
    """
    if source.label_columns:
        read_csv(path, source.label_columns)
        return source.label_columns
    if source.label_column:
        return [source.label_column]
    id_column = source.id_column or table.columns[0]
    others = [column for column in table.columns if column not in (id_column, source.group_column)]
    if not others:
        raise InputError(f"{shown(path)} needs an id and a label column, but has only '{table.columns[0]}'")
    as_submitted = bool(wanted) and set(wanted) <= set(others)
    chosen = list(wanted) if as_submitted else others[:1]
    if len(others) > 1:
        reason = "named as in the submission" if as_submitted else "the first after the id"
        named = ", ".join(f"'{column}'" for column in chosen[:4]) + (", ..." if len(chosen) > 4 else "")
        noun = "column" if len(chosen) == 1 else f"{len(chosen)} columns"
        advice = "label_columns" if as_submitted and len(chosen) > 1 else "label_column or label_columns"
        doubt = "" if as_submitted else "note: "
        say(
            "manifest",
            f"{doubt}labels: {noun} {named} of {path.name}, {reason}; to take others, set {advice} in [train]",
        )
    return chosen


def test_table(source: Test, names: list[str], folder: Path, paths: Paths) -> tuple[pd.DataFrame, list[Problem]]:
    """Rows (name, image_id, label) of the images to predict, and problems.

    The name is "" if an id of the CSV has no file. The label is "" unless the name of the image contains it. Raises
    FoldwiseError if two files have the same id.
    """
    if source.ids is not None:
        path = paths.find(source.ids)
        table, found, problems = table_from_csv(path, source.id_column, names, folder, source.header is not False)
        ids = table[source.id_column or table.columns[0]]
        return pd.DataFrame({"name": found, "image_id": ids}).assign(label=""), problems
    if source.pattern is None:  # class folders
        matches = {name: {"id": image_id} for name, image_id in zip(names, train_ids(pd.Series(names)), strict=True)}
    else:
        matches = match_all(source.pattern, names, "test", folder)
    columns = ["name", "image_id", "label"]
    rows = pd.DataFrame(
        [(name, groups["id"] or "", groups.get("label") or "") for name, groups in matches.items()], columns=columns
    )
    if source.labels == "folders":
        rows["label"] = [name.split("/")[0] if "/" in name else "" for name in rows["name"]]
    twice = rows[rows["image_id"].duplicated(keep=False)].sort_values(["image_id", "name"])
    if len(twice):
        one, two = twice["name"].iloc[:2]
        raise InputError(
            f"two test files have the id '{twice['image_id'].iloc[0]}': '{one}' and '{two}' in {shown(folder)}; "
            "remove one, or correct the pattern of [test]"
        )
    return rows, unmatched_problems(
        [name for name in names if name not in matches], "the test pattern does not match it"
    )


def train_ids(names: pd.Series) -> pd.Series:
    """image_id of each train file: the name without extension, or with it if files differ only in the extension."""
    stems = names.map(without_extension)
    return stems.where(~stems.duplicated(keep=False), names)


def shared_ids(table: pd.DataFrame, pattern: str | None) -> list[Problem]:
    """A problem for each train file whose id occurs in several names, unless this applies to most of the files.

    All of these files are used, since a train image is identified by its path. But a rare duplicate may be a mistake.
    """
    if pattern is None or "id" not in re.compile(pattern).groupindex:
        return []
    ids = table["name"].map(lambda name: re.search(pattern, name)["id"])  # type: ignore[index]
    repeated = ids.duplicated(keep=False)
    if repeated.mean() > 0.5:  # for example, each class is numbered from one
        return []
    detail = "another file also has the id {}; both are used, since a train image is identified by its path"
    return [
        Problem(name, "duplicate id", detail.format(number))
        for name, number in zip(table["name"][repeated], ids[repeated], strict=True)
    ]
