"""The pictures of a training show what was predicted."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from pipeline.learner import training_pictures
from pipeline.learner.fold_data import FoldData
from pipeline.pixels.augment import eval_transforms
from pipeline.pixels.cache import open_pixels, readable_rows
from pipeline.pixels.dataset import ImageDataset
from pipeline.records.paths import Paths
from pipeline.records.recipe import load_recipe
from pipeline.records.tables import read_manifest
from pipeline.tasks.classification import Classification


def test_wrong_predictions_are_marked_and_counted(
    split: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = readable_rows(read_manifest(split.manifest)).head(30)
    dataset = ImageDataset(open_pixels(split, readable_rows(read_manifest(split.manifest)), 24, "train"), rows,
                           eval_transforms(load_recipe("tiny", [])))  # fmt: skip
    labels, task = rows["label"].tolist(), Classification(["circle", "square"])
    facts = {"val_images": dataset, "val_rows": rows, "val_targets": task.targets(rows["label"]), "task": task}
    data = cast(FoldData, SimpleNamespace(**facts, metric=task.metric("accuracy")))
    predictions = np.random.default_rng(0).dirichlet([1, 1], 30)
    drawn: dict[str, Any] = {}
    monkeypatch.setattr(training_pictures, "save_grid", lambda *arguments: drawn.update(grid=arguments))
    monkeypatch.setattr(training_pictures, "save_confusion", lambda *arguments: drawn.update(confusion=arguments))
    training_pictures.draw_validation(tmp_path, data, predictions, "heading")
    best = [task.target_names[position] for position in predictions.argmax(1)]
    np.testing.assert_array_equal(drawn["confusion"][1], confusion_matrix(labels, best, labels=task.target_names))
    costs = [-np.log(of_row[int(name == "square")]) for of_row, name in zip(predictions, labels, strict=True)]
    shown = np.argsort(costs)[::-1][:24]  # the images that cost most come first
    assert list(drawn["grid"][5]) == [best[row] != labels[row] for row in shown]
    for row, title in zip(shown, drawn["grid"][2], strict=True):
        assert title.startswith(f"{best[row]} (") and ("\nis " in title) == (best[row] != labels[row])
