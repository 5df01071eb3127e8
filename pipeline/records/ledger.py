"""Keeps ledger.csv: one row for each run, blend and submission that was made, and for each known leaderboard score.

Rows are only added, so that the history stays. The last row of a kind and name counts.
"""

from __future__ import annotations

import csv
import io
import math
import os
import time
from typing import Any

import pandas as pd

from pipeline.records.paths import Paths
from pipeline.records.tables import read_csv
from pipeline.system.errors import InputError
from pipeline.system.locks import held
from pipeline.system.places import shown

#: what: "run", "blend", "submission" or "leaderboard"; name: of the predictions; score: out of fold, or that of the
#: leaderboard; low, high: 95 % interval on the test images; sha256: of the out-of-fold predictions or the submission.
COLUMNS = (
    "when", "what", "name", "folds", "seeds", "metric", "score", "expected", "low", "high", "seconds", "hardware",
    "folds_sha256", "sha256", "commit",
)  # fmt: skip


def add_row(paths: Paths, what: str, name: str, **cells: Any) -> None:
    """Adds a row; missing cells and None are empty."""
    now = time.strftime("%Y-%m-%d %H:%M:%S")
    row = {"when": now, "what": what, "name": name, **{key: value for key, value in cells.items() if value is not None}}
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    path = paths.ledger
    with held(path.with_name(f".{path.name}.guard"), lambda: None):
        is_new = not path.exists() or not path.stat().st_size
        if is_new:
            writer.writeheader()
        elif not path.read_bytes().endswith(b"\n"):  # a row that a crash cut off stays a row of its own
            text.write("\n")
        writer.writerow(row)
        with path.open("a", encoding="utf-8", newline="") as file:
            file.write(text.getvalue())
            file.flush()
            os.fsync(file.fileno())


def add_prediction(paths: Paths, what: str, name: str, score: dict[str, Any], of_whom: int) -> None:
    """Adds the row of a run or blend, from the content of its score.json.

    of_whom: number of folds of the competition
    """
    add_row(paths, what, name, **cells_of(score, of_whom))


def cells_of(score: dict[str, Any], of_whom: int) -> dict[str, Any]:
    """The cells of a run or blend from the content of its score.json, as in ``add_prediction``."""
    low, high = score["interval_95"] or (None, None)
    folds = score["folds"] if isinstance(score["folds"], str) else f"{len(score['folds'])} of {of_whom}"
    return dict(
        folds=folds, seeds=score["seeds"], metric=score["metric"], score=score["cv_score"],
        expected=score["expected_score"], low=low, high=high, seconds=round(score["training_seconds"]),
        hardware=f"{score['device']}, {score['cpus']} CPUs", folds_sha256=score["folds_sha256"],
        sha256=score["sha256"].get("oof", score["sha256"].get("test")), commit=score["commit"],
    )  # fmt: skip


def read_ledger(paths: Paths) -> pd.DataFrame:
    """All rows, every cell as text; raises FoldwiseError if the file is not a ledger."""
    if not paths.ledger.exists():
        return pd.DataFrame(columns=list(COLUMNS), dtype=str)
    restore = "restore the file, or rename it to begin a new one"
    try:
        table = read_csv(paths.ledger)
    except InputError as fault:
        raise InputError(f"{fault}; {restore}") from fault
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing:
        raise InputError(f"{shown(paths.ledger)} has no column '{missing[0]}'; {restore}")
    return table


def number_in(row: Any, column: str) -> float | None:
    """The number in a cell of the ledger, None if it is empty or NaN; raises FoldwiseError for other text."""
    text = str(row[column])
    if not text:
        return None
    try:
        return float(text) if math.isfinite(float(text)) else None
    except ValueError as error:
        raise InputError(
            f"ledger.csv: '{text}' in the column {column} of the row '{row['name']}' of {row['when']} is not a number; "
            "correct it"
        ) from error


def parse_leaderboard(text: str) -> tuple[str, float]:
    """The name and the score in ``"resnet18~epochs=60=0.4512"``: what is after the last equals sign is the score."""
    name, equals, score = text.rpartition("=")
    try:
        value = float(score)
    except ValueError:
        value = math.nan
    if not (equals and name and math.isfinite(value)):
        raise InputError(f'SCORE="{text}" is not a name and its score; write for example SCORE="resnet18=0.4512"')
    return name, value
