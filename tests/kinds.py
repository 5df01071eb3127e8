"""The shapes with labels of other kinds, so that every promise can be tested for each kind of task."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from tests.conftest import draw_shapes

#: For each kind: the keys at the top of competition.toml, those of [train] and those of [submission].
KINDS = {
    "multilabel": ('metric = "sample_f2"', 'label_column = "tags"', 'value = "labels"'),
    "regression": ('metric = "rmse"', 'label_column = "target"', 'value = "number"'),
    "ordinal": ('metric = "quadratic_kappa"', 'label_column = "grade"\ngroup_column = "owner"', 'value = "class"'),
}

TOML = r"""
title  = "Shapes with other labels"
task   = "{kind}"
recipe = "tiny"
symmetries = ["hflip"]
{top}
[train]
images = "train"
labels = "labels.csv"
{train}
[test]
images  = "test"
pattern = '^(?P<id>\d+)\.png$'
[folds]
n = 3
[submission]
sample  = "sample_submission.csv"
{form}
"""


def draw_kind(home: Path, kind: str) -> None:
    """The shapes in raw/, with labels that follow from their pixels: tags, light (a number), and grade (0 to 3)."""
    draw_shapes(home)
    rows = []
    for path in sorted((home / "raw" / "train").glob("*.png"), key=lambda path: int(path.stem.rpartition("_")[2])):
        light = float(np.asarray(cv2.imread(str(path))).mean())
        number = int(path.stem.rpartition("_")[2])
        tags = [
            path.stem.partition("_")[0],
            *(["bright"] if light > 60 else []),
            *(["even"] if number % 4 == 0 else []),
        ]
        rows.append((path.stem, " ".join(tags), f"{light:.2f}", f"owner{number // 2}"))
    table = pd.DataFrame(rows, columns=["id", "tags", "target", "owner"])
    light = table["target"].astype(float)
    table["grade"] = np.searchsorted(light.quantile([0.4, 0.7, 0.9]), light).astype(str)
    table.to_csv(home / "raw" / "labels.csv", index=False)
    example = {"multilabel": "circle", "regression": "55.5", "ordinal": "0"}[kind]
    ids = "".join(f"{number},{example}\n" for number in range(1, 12))
    (home / "raw" / "sample_submission.csv").write_text("id,answer\n" + ids)
    top, train, form = KINDS[kind]
    (home / "competition.toml").write_text(TOML.format(kind=kind, top=top, train=train, form=form))
