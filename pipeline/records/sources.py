"""Finds the label, group and id of each image by a pattern, a CSV, or class folders.

Legend: a name is a file's POSIX path relative to its images folder.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from pipeline.records.competition import Test, Train
from pipeline.records.finding import Images, find_files, with_fields, without_extension
from pipeline.records.paths import Paths
from pipeline.records.problems import Problem, unmatched_problems
from pipeline.records.tables import read_csv, require_columns, require_unique
from pipeline.system.console import say
from pipeline.system.errors import InputError, count_of
from pipeline.system.places import shown
from pipeline.system.signals import cpu_limit

#: Limit in CPU seconds for matching a pattern, and what each name adds to it; normally a name takes a microsecond.
MATCH_SECONDS, MATCH_SECONDS_EACH = 1.5, 2e-5


def match_all(pattern: str, images: Images, key: str) -> dict[str, dict[str, str]]:
    """The named groups of each name that the pattern matches, inside the folder that ``images`` names.

    key: of the pattern in competition.toml, for messages

    Raises FoldwiseError if it matches none, or if it takes too long: with nested repeats such as ``(a+)+``, the time
    can grow exponentially with the length of the name (Davis et al., 2018).
    """
    compiled = re.compile(pattern)
    matches, name = {}, ""
    try:
        with cpu_limit(MATCH_SECONDS + MATCH_SECONDS_EACH * len(images.names)):
            for name in images.names:
                if match := compiled.search(images.inside(name)):
                    matches[name] = match.groupdict()
    except TimeoutError:
        raise InputError(
            f"{key} = '{pattern}' takes too long on the name '{name}'; simplify it in "
            "competition.toml, for example write a+ instead of (a+)+"
        ) from None
    if not matches:
        seen = ", ".join(f"'{name}'" for name in images.names[:3])
        files = f"{count_of(len(images.names), 'file')} in {shown(images.folder)}"
        raise InputError(
            f"{key} = '{pattern}' matches none of the {files}, such as {seen}; correct the pattern in competition.toml"
        )
    return matches


def files_of_rows(
    table: pd.DataFrame, source: Train | Test, images: Images, path: Path
) -> tuple[pd.Series, pd.Series, list[Problem]]:
    """The id and the file name of each row of a CSV ("" if there is none), and a problem for each missing file.

    Raises FoldwiseError if an id occurs twice.
    """
    require_columns(table, [source.id_column] if source.id_column else [], path)
    ids = table[source.id_column or table.columns[0]]
    require_unique(ids, shown(path))
    wanted = with_fields(source.file_name, table, ids, path) if source.file_name else ids
    found = find_files(wanted, images, path)
    if found.note:
        say("manifest", f"note: {found.note}")
    problems = []
    for row, name in zip(ids[found.names == ""], wanted[found.names == ""], strict=True):
        why = f"; {reason}" if (reason := found.reasons.get(name, "")) else ""
        problems.append(Problem(row, "file missing", f"listed in {path.name}, but not in {shown(images.folder)}{why}"))
    return ids, found.names, problems


def stripped(table: pd.DataFrame) -> pd.DataFrame:
    """The table without blanks at the ends of its column names, if they stay different."""
    names = [name.strip() for name in table.columns]
    return table.set_axis(names, axis=1) if len({*names}) == len(names) else table


class Labelled(NamedTuple):
    """The labelled files: L columns of labels for N rows.

    table: name and group of each row
    labels: (N, L) text as it is written in the file names, the folders or the CSV
    """

    table: pd.DataFrame
    labels: pd.DataFrame


def train_table(
    source: Train, images: Images, paths: Paths, wanted: Sequence[str] = ()
) -> tuple[Labelled, list[Problem]]:
    """The labelled files, and problems: files without label, CSV rows without file.

    wanted: names of the columns that are submitted, which are the label columns of the CSV if it has all of them
    """
    columns, names = ["name", "label", "group"], images.names
    if source.labels == "folders":
        rows = [(name, inside.split("/")[0], "") for name in names if "/" in (inside := images.inside(name))]
        if not rows:
            raise InputError(f"labels = 'folders' needs a folder for each class in {shown(images.folder)}; it has none")
        left = [name for name in names if "/" not in images.inside(name)]
        return labelled(pd.DataFrame(rows, columns=columns)), unmatched_problems(left, "not inside a class folder")
    if source.labels is None:
        assert source.pattern is not None
        matches = match_all(source.pattern, images, "[train] pattern")
        rows = [(name, groups["label"] or "", groups.get("group") or "") for name, groups in matches.items()]
        left = [name for name in names if name not in matches]
        return labelled(pd.DataFrame(rows, columns=columns)), unmatched_problems(left, "the pattern does not match it")

    path = paths.find(source.labels)
    table = stripped(read_csv(path))
    group = [source.group_column] if source.group_column and source.groups is None else []
    require_columns(table, [*([source.id_column] if source.id_column else []), *group], path)
    chosen = label_columns(source, table, path, wanted)
    # Some sets have several rows for an image, such as one for each box in it, with the same label.
    table = table.drop_duplicates([source.id_column or table.columns[0], *chosen, *group], ignore_index=True)
    _, found, problems = files_of_rows(table, source, images, path)
    has_file = (found != "").to_numpy()
    twice = found[has_file & found.duplicated(keep=False).to_numpy()]
    if len(twice):
        both = " and ".join(f"'{name}'" for name in table.iloc[:, 0][twice.index[:2]])
        raise InputError(f"{shown(path)} names the file '{twice.iloc[0]}' twice, by {both}; remove one of them")
    rows_of_csv = pd.DataFrame({"name": found}).assign(group=table[group[0]] if group else "")
    named = set(found)
    problems += [Problem(name, "no label", f"not listed in {path.name}") for name in names if name not in named]
    labels = table.loc[has_file, chosen].reset_index(drop=True)
    return Labelled(rows_of_csv[has_file].reset_index(drop=True), labels), problems


def labelled(rows: pd.DataFrame) -> Labelled:
    """The labelled files from a table with the columns name, label and group."""
    return Labelled(rows[["name", "group"]], rows[["label"]])


def label_columns(source: Train, table: pd.DataFrame, path: Path, wanted: Sequence[str]) -> list[str]:
    """The columns of the CSV that hold the labels.

    These are the columns that competition.toml names; else those with the names of the submission's columns, if the CSV
    has all of them; else the first column that is neither the id nor the group. Prints which if it is not evident.
    """
    id_column = source.id_column or table.columns[0]
    group_column = source.group_column if source.groups is None else None
    others = [column for column in table.columns if column not in (id_column, group_column)]
    if source.label_column == id_column:
        raise InputError(
            f"label_column = '{id_column}' is the column of the ids of {path.name}; name that of the labels"
        )
    if given := source.label_columns or ([source.label_column] if source.label_column else []):
        require_columns(table, given, path)
        if (unused := [name for name in wanted if name in others and name not in given]) and len(wanted) == 1:
            say(
                "manifest",
                f"note: the labels are in '{given[0]}', as competition.toml says, but {path.name} also has the column "
                f"'{unused[0]}', which the submission asks for",
            )
        return given
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


def test_table(source: Test, images: Images, paths: Paths) -> tuple[pd.DataFrame, list[Problem]]:
    """Rows (name, image_id, label) of the images to predict, and problems.

    The name is "" if an id of the CSV has no file. The label is "" unless the name of the image contains it. Raises
    FoldwiseError if two files have the same id.
    """
    if source.ids is not None:
        path = paths.find(source.ids)
        table = stripped(read_csv(path, header=None if source.header is not False else []))
        ids, found, problems = files_of_rows(table, source, images, path)
        return pd.DataFrame({"name": found, "image_id": ids}).assign(label=""), problems
    names = images.names
    if source.pattern is None:  # class folders
        matches = {name: {"id": image_id} for name, image_id in zip(names, train_ids(pd.Series(names)), strict=True)}
    else:
        matches = match_all(source.pattern, images, "[test] pattern")
    columns = ["name", "image_id", "label"]
    rows = pd.DataFrame(
        [(name, groups["id"] or "", groups.get("label") or "") for name, groups in matches.items()], columns=columns
    )
    if source.labels == "folders":
        insides = map(images.inside, rows["name"])
        rows["label"] = [inside.split("/")[0] if "/" in inside else "" for inside in insides]
    twice = rows[rows["image_id"].duplicated(keep=False)].sort_values(["image_id", "name"])
    if len(twice):
        one, two = twice["name"].iloc[:2]
        raise InputError(
            f"two test files have the id '{twice['image_id'].iloc[0]}': '{one}' and '{two}' in {shown(images.folder)}; "
            "remove one, or correct the pattern of [test]"
        )
    return rows, unmatched_problems(
        [name for name in names if name not in matches], "the test pattern does not match it"
    )


def train_ids(names: pd.Series) -> pd.Series:
    """image_id of each train file: the name without extension, or with it if files differ only in the extension."""
    stems = names.map(without_extension)
    return stems.where(~stems.duplicated(keep=False), names)


def shared_ids(table: pd.DataFrame, pattern: str | None, images: Images) -> list[Problem]:
    """A problem for each train file whose id occurs in several names, unless this applies to most of the files.

    All of these files are used, since a train image is identified by its path. But a rare duplicate may be a mistake.
    """
    if pattern is None or "id" not in re.compile(pattern).groupindex:
        return []
    ids = table["name"].map(lambda name: re.search(pattern, images.inside(name))["id"])  # type: ignore[index]
    repeated = ids.duplicated(keep=False)
    if repeated.mean() > 0.5:  # for example, each class is numbered from one
        return []
    detail = "another file also has the id {}; both are used, since a train image is identified by its path"
    return [
        Problem(name, "duplicate id", detail.format(number))
        for name, number in zip(table["name"][repeated], ids[repeated], strict=True)
    ]
