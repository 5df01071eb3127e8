"""Draws the contact sheet: a grid with some train images of each class."""

from __future__ import annotations

import numpy as np
import pandas as pd

from pipeline.pixels.decode import decode_to_side
from pipeline.pixels.pictures import save_grid
from pipeline.records.paths import Paths
from pipeline.system.errors import count_of
from pipeline.tasks.task import Task

#: Images in a row, and the most images.
COLUMNS, MOST = 10, 120


def draw_contact_sheet(manifest: pd.DataFrame, task: Task, paths: Paths) -> None:
    """Saves a grid with evenly picked train images of each class, or of the first classes if there are many.

    A class gets a row, or a part of one if all classes have few images. For other tasks, the classes are tags, grades,
    or ranges of numbers.
    """
    train = manifest[manifest["split"] == "train"]
    members = {label: positions for label, positions in task.members(train["label"]).items() if len(positions)}
    most = max(map(len, members.values()), default=1)
    per_class = next(part for part in (10, 5, 2, 1) if part <= max(1, most))  # parts of a row
    shown = list(members.items())[: MOST // per_class]
    images, titles = [], []
    for label, positions in shown:
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
    more = f", the first {len(shown)} of {number}" if len(members) > len(shown) else ""
    heading = f"{paths.competition}: {len(train):,} train images{more}"
    save_grid(paths.contact_sheet, images, titles, min(COLUMNS, max(5, len(images))), heading)
