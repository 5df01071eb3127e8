"""The shapes with labels of other kinds, so that every promise can be tested for each kind of task."""

from __future__ import annotations

from collections.abc import Callable
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
labels  = "known.csv"
[folds]
n = 3
[submission]
sample  = "sample_submission.csv"
{form}
"""


#: The column of labels.csv with the labels of a kind.
COLUMNS = {"multilabel": "tags", "regression": "target", "ordinal": "grade"}


def labels_of(folder: Path, shape_of: Callable[[str], str]) -> pd.DataFrame:
    """Id, tags, target (a number: the light) and owner of each picture; shape_of: name of a file -> its shape."""
    rows = []
    for path in sorted(folder.glob("*.png"), key=lambda path: int(path.stem.rpartition("_")[2])):
        light, number = float(np.asarray(cv2.imread(str(path))).mean()), int(path.stem.rpartition("_")[2])
        tags = [shape_of(path.stem)] + ["bright"] * (light > 60) + ["fourth"] * (number % 4 == 0)
        rows.append((path.stem, " ".join(tags), f"{light:.2f}", f"owner{number // 2}"))
    return pd.DataFrame(rows, columns=["id", "tags", "target", "owner"])


def draw_kind(home: Path, kind: str) -> None:
    """The shapes in raw/, with labels that follow from their pixels: tags, target (a number), and grade (0 to 3)."""
    draw_shapes(home)
    train = labels_of(home / "raw" / "train", lambda name: name.partition("_")[0])
    test = labels_of(home / "raw" / "test", lambda name: "square" if int(name) % 2 else "circle")
    cuts = train["target"].astype(float).quantile([0.4, 0.7, 0.9])
    for table in (train, test):
        table["grade"] = np.searchsorted(cuts, table["target"].astype(float)).astype(str)
    train.to_csv(home / "raw" / "labels.csv", index=False)
    test[["id", COLUMNS[kind]]].to_csv(home / "raw" / "known.csv", index=False)
    example = {"multilabel": "circle", "regression": "55.5", "ordinal": "0"}[kind]
    ids = "".join(f"{number},{example}\n" for number in range(1, 12))
    (home / "raw" / "sample_submission.csv").write_text("id,answer\n" + ids)
    top, of_train, form = KINDS[kind]
    (home / "competition.toml").write_text(TOML.format(kind=kind, top=top, train=of_train, form=form))
