"""Predictions of folds become one prediction, by id."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.records.combined import check_predicted, members_of_test, stitch
from pipeline.records.job import make_job
from pipeline.records.paths import Paths
from pipeline.records.runs import open_run
from pipeline.system.errors import FoldwiseError
from pipeline.system.files import read_record, write_record
from tests.runs import draw_predictions


def test_each_row_has_the_prediction_of_its_own_fold(split: Paths) -> None:
    job = make_job("shapes")
    draw_predictions(job, 1.0, 0)
    rows, predictions = stitch(job, open_run(job))
    for fold in range(3):
        saved = np.load(job.fold_folder(fold) / "oof.npz")
        of_fold = (rows["fold"] == fold).to_numpy()
        assert list(saved["image_ids"]) == list(rows["image_id"][of_fold])
        np.testing.assert_array_equal(saved["predictions"], predictions[of_fold].astype(np.float32))
    assert len(rows) == 60 and [len(member) for member in members_of_test(job, open_run(job))] == [11] * 3


def test_predictions_by_other_weights_are_refused(split: Paths) -> None:
    job = make_job("shapes")
    draw_predictions(job, 1.0, 0)
    check_predicted(job, "type: make predict")
    record = job.fold_folder(1) / "predicted.json"
    write_record(record, {**read_record(record), "weights_sha256": "other"})
    with pytest.raises(FoldwiseError, match="fold 1 of tiny was predicted with other weights than it has now"):
        check_predicted(job, "type: make predict")
