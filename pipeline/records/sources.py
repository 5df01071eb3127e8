"""Which file is which row: names of images matched to labels and ids by a pattern, a CSV, or class folders.

Legend: a name is a file's POSIX path below its images folder; a table has one row for each image that has a place.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pandas as pd

from pipeline.formats.listing import list_files
from pipeline.records.competition import Test, Train, checked_label
from pipeline.records.paths import Paths
from pipeline.records.tables import read_csv, require_unique
from pipeline.system.errors import FoldwiseError, count_of
from pipeline.system.places import shown
from pipeline.system.signals import cpu_limit

#: CPU seconds that a pattern may take, and what each name adds to them; a harmless one takes a microsecond a name.
MATCH_SECONDS, MATCH_SECONDS_EACH = 1.5, 2e-5


class Problem(NamedTuple):
    """A finding: the file (its name, later its path as in the manifest), its kind, and a sentence."""

    path: str
    problem: str
    detail: str


def list_images(paths: Paths, images: str, split: str) -> tuple[Path, list[str]]:
    """The folder that the TOML names and the names in it; raises FoldwiseError when it is missing or no folder."""
    folder = paths.find(images)
    if not folder.is_dir():
        raise FoldwiseError(f"[{split}] images = '{images}': {shown(folder)} is not a folder")
    return folder, list_files(folder)


def require_some(names: list[str], folder: Path, split: str) -> None:
    """Raises FoldwiseError for an empty folder."""
    if not names:
        raise FoldwiseError(f"[{split}] images: {shown(folder)} is empty; put the {split} images there")


def match_all(pattern: str, names: list[str], split: str, folder: Path) -> dict[str, dict[str, str]]:
    """Named groups of each name that the pattern matches; raises FoldwiseError when none does, or when a name takes
    it forever: nested repeats such as ``(a+)+`` try more ways than there are atoms (Davis et al., 2018)."""
    compiled = re.compile(pattern)
    matches, name = {}, ""
    try:
        with cpu_limit(MATCH_SECONDS + MATCH_SECONDS_EACH * len(names)):
            for name in names:
                if match := compiled.search(name):
                    matches[name] = match.groupdict()
    except TimeoutError:
        raise FoldwiseError(
            f"[{split}] pattern = '{pattern}' takes forever on the name '{name}'; a repeat inside a repeat, such as "
            "(a+)+, does that: write it without the inner or the outer one in competition.toml"
        ) from None
    if not matches:
        seen = ", ".join(f"'{name}'" for name in names[:3])
        raise FoldwiseError(
            f"[{split}] pattern = '{pattern}' matches none of the {count_of(len(names), 'file')} in {shown(folder)}, "
            f"such as {seen}; mend the pattern in competition.toml"
        )
    return matches


def files_by_id(names: list[str]) -> dict[str, str]:
    """Each file under both names that a CSV may call it by: with and without extension."""
    index = {name: name for name in names}
    for name in names:
        stem = without_extension(name)
        if index.setdefault(stem, name) != name:
            index[stem] = ""  # two files of one stem: only the full name tells them apart
    return index


def without_extension(name: str) -> str:
    """``frog/0001.png`` -> ``frog/0001``."""
    return str(PurePosixPath(name).with_suffix(""))


def table_from_csv(
    path: Path, id_column: str | None, names: list[str], folder: Path, has_header: bool = True
) -> tuple[pd.DataFrame, pd.Series, list[Problem]]:
    """The CSV, the file name of each of its rows ('' where there is none), and those missing as problems."""
    table = read_csv(path, [id_column] if id_column else [], header=None if has_header else [])
    ids = table[id_column or table.columns[0]]
    require_unique(ids, shown(path))
    index = files_by_id(names)
    found = ids.map(lambda name: index.get(name, ""))
    detail = f"{path.name} names it, {shown(folder)} does not hold it"
    return table, found, [Problem(name, "file missing", detail) for name in ids[found == ""]]


def train_table(source: Train, names: list[str], folder: Path, paths: Paths) -> tuple[pd.DataFrame, list[Problem]]:
    """Rows (name, label, group) of the labelled files, and the files or CSV rows that found no partner."""
    columns = ["name", "label", "group"]
    if source.labels == "folders":
        rows = [(name, name.split("/")[0], "") for name in names if "/" in name]
        if not rows:
            raise FoldwiseError(f"labels = 'folders' needs a folder for each class in {shown(folder)}; it has none")
        left = [name for name in names if "/" not in name]
        return pd.DataFrame(rows, columns=columns), unmatched(left, "not inside a class folder")
    if source.labels is None:
        assert source.pattern is not None
        matches = match_all(source.pattern, names, "train", folder)
        rows = [(name, groups["label"] or "", groups.get("group") or "") for name, groups in matches.items()]
        left = [name for name in names if name not in matches]
        return pd.DataFrame(rows, columns=columns), unmatched(left, "the pattern does not match it")

    path = paths.find(source.labels)
    read_csv(path, [column for column in (source.label_column, source.group_column) if column])
    table, found, problems = table_from_csv(path, source.id_column, names, folder)
    if len(table.columns) < 2:
        raise FoldwiseError(f"{shown(path)} needs an id and a label column, but has only '{table.columns[0]}'")
    labels = table[source.label_column or table.columns[1]]
    groups = table[source.group_column] if source.group_column else ""
    rows_of_csv = pd.DataFrame({"name": found, "label": labels}).assign(group=groups)
    named = set(found)
    problems += [Problem(name, "no label", f"{path.name} does not name it") for name in names if name not in named]
    return rows_of_csv[found != ""].reset_index(drop=True), problems


def test_table(source: Test, names: list[str], folder: Path, paths: Paths) -> tuple[pd.DataFrame, list[Problem]]:
    """Rows (name, image_id, label) of the images to predict; the name is empty where a CSV's id has no file, the label
    where the name of the image tells none."""
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
        raise FoldwiseError(
            f"two test files have the id '{twice['image_id'].iloc[0]}': '{one}' and '{two}' in {shown(folder)}; "
            "remove one or mend [test] pattern"
        )
    return rows, unmatched([name for name in names if name not in matches], "the test pattern does not match it")


def unmatched(names: Iterable[str], detail: str) -> list[Problem]:
    """Files that have no place."""
    return [Problem(name, "name does not match", detail) for name in names]


def check_labels(table: pd.DataFrame, classes: list[str] | None) -> tuple[pd.DataFrame, list[Problem]]:
    """The rows whose label is one of the classes, spelled as there, and what was found about the others."""
    problems = [Problem(name, "no label", "its label is empty") for name in table["name"][table["label"] == ""]]
    table = table[table["label"] != ""]
    if classes is None:
        return table.reset_index(drop=True), problems
    meaning = {label: checked_label(label, classes) for label in table["label"].unique()}
    meant = [meaning[label] for label in table["label"]]
    for name, label, known in zip(table["name"], table["label"], meant, strict=True):
        if known is None:
            problems.append(Problem(name, "label outside classes", f"'{label}' is not one of {', '.join(classes)}"))
        elif known != label:
            problems.append(Problem(name, "label in other letters", f"'{label}' is read as '{known}'"))
    return table.assign(label=meant)[[label is not None for label in meant]].reset_index(drop=True), problems


def train_ids(names: pd.Series) -> pd.Series:
    """image_id of train files: the path without extension, with it where that would name two files."""
    stems = names.map(without_extension)
    return stems.where(~stems.duplicated(keep=False), names)


def shared_ids(table: pd.DataFrame, pattern: str | None) -> list[Problem]:
    """Train files that share an id: harmless, since rows go by path, but worth a look where it is the exception."""
    if pattern is None or "id" not in re.compile(pattern).groupindex:
        return []
    ids = table["name"].map(lambda name: re.search(pattern, name)["id"])  # type: ignore[index]
    repeated = ids.duplicated(keep=False)
    if repeated.mean() > 0.5:  # each class is numbered from one
        return []
    detail = "another file has the id {} too; rows go by path, so both are used"
    return [
        Problem(name, "shares its id", detail.format(number))
        for name, number in zip(table["name"][repeated], ids[repeated], strict=True)
    ]
