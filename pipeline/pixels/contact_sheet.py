"""Draws the contact sheet: a grid with some train images of each class."""

from __future__ import annotations

import numpy as np
import pandas as pd

from pipeline.pixels.decode import decode_to_side
from pipeline.pixels.pictures import save_grid
from pipeline.records.paths import Paths
from pipeline.system.errors import count_of
from pipeline.tasks.task import Task


def draw_contact_sheet(
    manifest: pd.DataFrame, task: Task, paths: Paths, per_class: int = 10, max_classes: int = 12
) -> None:
    """Saves a grid with up to ``per_class`` evenly picked train images of each of the first ``max_classes`` classes.

    For other tasks, the classes are tags, grades, or ranges of numbers.
    """
    train = manifest[manifest["split"] == "train"]
    images, titles = [], []
    members = task.members(train["label"])
    per_class = min(per_class, max(6, *map(len, members.values())))
    for label, positions in list(members.items())[:max_classes]:
        rows = train.iloc[positions]
        picked = rows.iloc[np.unique(np.linspace(0, len(rows) - 1, per_class).astype(int))]
        shots = [
            decode_to_side((paths.home / row.path).read_bytes(), 120, row.height, row.width)
            for row in picked.itertuples()
        ]
        blanks = [np.full((1, 1, 3), 255, np.uint8)] * (per_class - len(shots))
        images += [*shots, *blanks]
        titles += [label] * len(shots) + [""] * len(blanks)
    number = count_of(len(members), task.noun)
    more = f", the first {max_classes} of {number}" if len(members) > max_classes else ""
    save_grid(paths.contact_sheet, images, titles, per_class, f"{paths.competition}: {len(train):,} train images{more}")
