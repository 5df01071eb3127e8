"""Finds the groups of train images, such as patients or scenes, which must stay in one fold."""

from __future__ import annotations

import pandas as pd

from pipeline.records.competition import Train
from pipeline.records.finding import Images, find_files
from pipeline.records.paths import Paths
from pipeline.records.problems import Problem
from pipeline.records.sources import match_all, stripped
from pipeline.records.spelling import plain
from pipeline.records.tables import read_csv, require_columns
from pipeline.system.errors import InputError
from pipeline.system.places import shown


def with_groups(table: pd.DataFrame, source: Train, images: Images, paths: Paths) -> tuple[pd.DataFrame, list[Problem]]:
    """The table of labelled files with their groups, and a problem for each file without group.

    The groups come from ``group_pattern`` or the CSV ``groups``, else from the labels' source, as the table has them.
    Groups that differ only in blanks at the ends or in the form of Unicode are the same.

    table: has the columns name and group
    """
    if source.group_pattern is not None:
        matches = match_all(source.group_pattern, images, "[train] group_pattern")
        found = {name: match["group"] or "" for name, match in matches.items()}
        reason = "group_pattern does not match it"
    elif source.groups is not None:
        found, reason = groups_of_csv(source, images, paths), f"not listed in {paths.find(source.groups).name}"
    else:
        return table.assign(group=table["group"].map(plain)), []
    groups = table["name"].map(lambda name: plain(found.get(name, "")))
    return table.assign(group=groups), [Problem(name, "no group", reason) for name in table["name"][groups == ""]]


def groups_of_csv(source: Train, images: Images, paths: Paths) -> dict[str, str]:
    """The group of each file that the CSV ``groups`` lists.

    Raises FoldwiseError if it lists none of the files, or a file with two groups.
    """
    path = paths.find(str(source.groups))
    table = stripped(read_csv(path))
    id_column = source.group_id_column or table.columns[0]
    others = [column for column in table.columns if column != id_column]
    if not others:
        raise InputError(f"{shown(path)} needs an id and a group column, but has only '{id_column}'")
    group_column = source.group_column or others[0]
    require_columns(table, [id_column, group_column], path)
    pairs = table[[id_column, group_column]].drop_duplicates()
    ids, groups = pairs[id_column], pairs[group_column]
    if ids.duplicated().any():
        twice = ids[ids.duplicated()].iloc[0]
        both = " and ".join(f"'{group}'" for group in groups[ids == twice][:2])
        raise InputError(f"{shown(path)} lists '{twice}' with two groups, {both}; correct the CSV")
    names = find_files(ids.reset_index(drop=True), images, path).names
    found: dict[str, str] = {}
    for name, group in zip(names, groups, strict=True):
        if name and plain(found.setdefault(name, group)) != plain(group):
            raise InputError(f"{shown(path)} lists the image '{name}' with two groups, '{found[name]}' and '{group}'")
    if not found:
        raise InputError(
            f"the column '{id_column}' of {shown(path)} names none of the train images, such as '{ids.iloc[0]}'; set "
            "group_id_column in [train] of competition.toml"
        )
    return found
