"""Reads which train files have which labels and groups, before any image is looked at."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from pipeline.records.competition import Competition
from pipeline.records.finding import Images, list_images, require_some
from pipeline.records.groups import with_groups
from pipeline.records.label_kinds import Kind, find_kind
from pipeline.records.labels import as_in_manifest, check_labels, names_of, note_blanks
from pipeline.records.paths import Paths
from pipeline.records.problems import Problem
from pipeline.records.sources import test_table, train_table
from pipeline.records.submission import read_sample, submitted_columns


class LabelledFiles(NamedTuple):
    """The train files.

    images: all files of the train folders, without those of the test set
    table: name, group and label, as the manifest has it, of each file with a valid label
    kind: kind of task
    names: names of the targets; None for those of the classes that occur in the end
    problems: files that cannot be used
    without_group: files without a group
    files: number of files and of rows that have none
    """

    images: Images
    table: pd.DataFrame
    kind: Kind
    names: list[str] | None
    problems: list[Problem]
    without_group: list[Problem]
    files: int


def read_labels(paths: Paths, competition: Competition) -> LabelledFiles:
    """The train files with their labels; raises FoldwiseError if there are none, or if the labels do not fit."""
    source = competition.train
    images = list_images(paths, source.images, "train")
    require_some(images, "train")
    if competition.test is not None and competition.test.images == source.images:  # both are in one folder
        of_test = set(test_table(competition.test, images, paths)[0]["name"])
        images = images._replace(names=[name for name in images.names if name not in of_test])
    sample = read_sample(competition, paths)
    (table, cells), problems = train_table(source, images, paths, submitted_columns(competition, sample))
    table, without_group = with_groups(table, source, images, paths)
    note_blanks(cells)
    kind = find_kind(cells, competition, None if sample is None else sample.iloc[:, 1:])
    names = names_of(cells, kind, competition)
    table = table.assign(label=as_in_manifest(cells, kind, names))
    files = len(table) + len(problems)
    table, found = check_labels(table, kind, names)
    return LabelledFiles(images, table, kind, names, problems + found, without_group, files)
