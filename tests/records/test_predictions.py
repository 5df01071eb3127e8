"""Predictions are read back as they were, or refused."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from pipeline.records.combined import load_fold
from pipeline.records.job import make_job
from pipeline.records.paths import Paths
from pipeline.records.predictions import Predictions
from pipeline.records.tables import read_folds, read_manifest
from pipeline.system.errors import FoldwiseError
from pipeline.tasks.classification import Classification
from tests.conftest import Stage
from tests.mutations import damaged


def test_predictions_come_back_as_they_were_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "oof.npz"
    saved = Predictions(np.array(["7", "007", "größe"]), np.array(["a", "b"]), np.full((3, 2), 0.5, np.float32))
    sha256 = saved.save(path)
    loaded = Predictions.load(path, sha256, "make it again")
    assert list(loaded.image_ids) == ["7", "007", "größe"]
    np.testing.assert_array_equal(loaded.predictions, saved.predictions)
    with pytest.raises(FoldwiseError, match=r"there is no .*missing.npz; make it again"):
        Predictions.load(tmp_path / "missing.npz", sha256, "make it again")
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(FoldwiseError, match="is damaged"):
        Predictions.load(path, sha256, "make it again")
    with pytest.raises(FoldwiseError, match="the prediction of '007' is not a number"):
        probs = np.array([[0.5, 0.5], [np.nan, 0.5], [1, 0]], np.float32)
        Predictions(saved.image_ids, saved.target_names, probs).save(path)


SHAPES = Classification(["circle", "square"])


def test_a_damaged_prediction(split: Paths, stage: Stage) -> None:
    """Of 300 forms only those that are the file itself are read."""
    stage("train", "--fold", "0")
    stage("predict", "--folds", "0")
    path, job = split.fold("tiny", 0) / "oof.npz", make_job("shapes")
    folds = read_folds(split.folds, 3, read_manifest(split.manifest))
    ids, content, same = folds.loc[folds["fold"] == 0, "image_id"], path.read_bytes(), []

    def read() -> None:
        load_fold(job, 0, "oof", ids, SHAPES.target_names)
        same.append(path.read_bytes() == content)

    rng = random.Random(3)
    for _ in range(300):
        path.write_bytes(damaged(content, [("", content)], rng))
        try:
            read()
        except FoldwiseError as fault:
            assert "has changed since it was written" in str(fault) or "damaged" in str(fault)
    assert all(same) and 10 < len(same) < 150
