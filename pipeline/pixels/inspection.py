"""Checks the images of a table, on all cores: size, sha256, and what is unusual about a file."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd

from pipeline.pixels.decode import MAX_PIXELS, Inspection, Unreadable, inspect
from pipeline.records.sources import Problem
from pipeline.system.console import progress
from pipeline.system.threads import in_threads


def inspect_all(files: list[Path], doing: str, max_pixels: int | None = None) -> list[Inspection | Unreadable]:
    """Checks files in several threads; returns an Inspection or an Unreadable for each, in the order of the files."""

    def look(path: Path) -> Inspection | Unreadable:
        try:
            return inspect(path, max_pixels or MAX_PIXELS)
        except Unreadable as fault:
            return fault

    return list(progress(in_threads(look, files), len(files), "manifest", doing))


def with_inspection(
    table: pd.DataFrame, folder: Path, doing: str, hashes: dict[str, str], max_pixels: int | None = None
) -> tuple[pd.DataFrame, list[Problem]]:
    """Checks the images of a table; returns the table with width, height and sha256, and the problems.

    The values are 0, 0 and "" for a file that is missing or cannot be read.

    table: rows with ``name``, the path below ``folder``, or "" if there is no file
    doing: description for the progress bar
    hashes: the sha256 of each file that was read is added to it, by path
    max_pixels: of competition.toml
    """
    problems, inspected = [], {}
    present = table["name"][table["name"] != ""]
    files = [folder / name for name in present]
    for name, seen in zip(present, inspect_all(files, doing, max_pixels), strict=True):
        notes = [("unreadable", str(seen))] if isinstance(seen, Unreadable) else seen.notes
        problems += [Problem(name, *note) for note in notes]
        if isinstance(seen, Inspection):
            inspected[name] = (seen.width, seen.height, seen.sha256)
            hashes[f"{folder}{os.sep}{name}"] = seen.sha256
    columns = zip(*(inspected.get(name, (0, 0, "")) for name in table["name"]), strict=True)
    return table.assign(**dict(zip(["width", "height", "sha256"], map(list, columns), strict=True))), problems
