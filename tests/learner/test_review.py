"""Which labels look wrong, and which images are nearly the same."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest

from pipeline.learner.review import doubts, list_mislabelled
from pipeline.records.paths import Paths
from pipeline.tasks.classification import Classification
from pipeline.tasks.multilabel import Multilabel
from pipeline.tasks.ordinal import Ordinal
from pipeline.tasks.regression import Regression
from pipeline.tasks.task import Task
from tests.conftest import Stage, write_image
from tests.learner.test_feature_head import RUN


def decode_file(path: Path) -> np.ndarray:
    image = cv2.imread(str(path))
    assert image is not None
    return np.asarray(image)


def test_doubt_of_each_kind_of_task() -> None:
    classes = np.array([[0.9, 0.1], [0.3, 0.7]])
    np.testing.assert_allclose(doubts(Classification(["a", "b"]), np.eye(2)[[0, 0]], classes), [0.1, 0.7])
    np.testing.assert_allclose(doubts(Multilabel(["a", "b"]), np.array([[1, 0], [1, 1]]), classes), [0.1, 0.7])
    np.testing.assert_allclose(doubts(Regression(["n"]), np.array([[0.0], [10]]), np.array([[2.0], [10]])), [0.2, 0])


@pytest.mark.parametrize(
    ("task", "labels", "predictions"),
    [
        (Classification(["a", "b"]), ["a", "b", "b"], [[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]]),
        (Multilabel(["a", "b"]), ["a", "", "a b"], [[0.9, 0.1], [0.8, 0.2], [0.7, 0.9]]),
        (Ordinal(["0", "1"]), ["0", "1", "1"], [[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]]),
        (Regression(["n"]), ["0", "10", "5"], [[1.0], [2.0], [5.0]]),
    ],
    ids=lambda value: value.kind if isinstance(value, Task) else "",
)
def test_the_list_of_each_kind_of_task(task: Task, labels: list[str], predictions: list, tmp_path: Path) -> None:
    tables: Any = SimpleNamespace(task=task, metric=task.metric(task.default_metric))
    images: Any = {(0, row): np.zeros((8, 8, 3), np.uint8) for row in range(3)}
    rows = pd.DataFrame({"image_id": ["x", "y", "z"], "path": "p", "label": labels, "position": range(3)})
    list_mislabelled(tmp_path, rows, np.array(predictions), tables, images)
    listed = pd.read_csv(tmp_path / "mislabelled.csv")
    assert listed["image_id"].tolist() == ["y"] and (tmp_path / "mislabelled.png").exists()


def test_a_wrong_label_and_a_copy_in_test_are_listed(
    root: Path, shapes: Paths, stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = shapes.home / "raw"
    wrong = raw / "train" / "square_101.png"  # a circle
    write_image(wrong, decode_file(raw / "train" / "circle_2.png")[:, ::-1])
    write_image(raw / "test" / "7.png", decode_file(raw / "train" / "square_5.png")[:, ::-1])
    for name in ("prepare", "manifest", "folds"):
        stage(name)
    for fold in "012":
        stage("train", "--fold", fold, "--threads", "1", *RUN)
    stage("predict", *RUN)
    folder = next(shapes.runs.glob("features*"))
    listed = pd.read_csv(folder / "mislabelled.csv", dtype=str)
    assert "square_101" in listed["image_id"].tolist()
    assert (folder / "mislabelled.png").exists() and (folder / "near_duplicates.png").exists()
    pairs = pd.read_csv(folder / "near_duplicates.csv", dtype=str, keep_default_na=False)
    across = pairs[pairs["split_1"] != pairs["split_2"]]
    assert {"square_5", "7"} in [set(pair) for pair in zip(across["image_id_1"], across["image_id_2"], strict=True)]
    assert "across train and test" in capsys.readouterr().out
