"""The batches of one fold hold the rows that they should."""

from __future__ import annotations

import numpy as np
import torch

from pipeline.learner.arrangement import Compute, choose_arrangement
from pipeline.learner.fold_data import load_data
from pipeline.learner.models import build_model
from pipeline.records.job import make_job
from pipeline.records.paths import Paths
from pipeline.records.runs import open_run


def test_train_and_validation_rows_are_apart_and_complete(split: Paths) -> None:
    job = make_job("shapes")
    tables, cpu = open_run(job), torch.device("cpu")
    compute = Compute(cpu, choose_arrangement(job.recipe, cpu, job.machine, 40))
    data = load_data(job, tables, 1, build_model(job.recipe, 2), compute)
    expected = tables.folds.set_index("image_id")
    train, val = set(data.train_rows["image_id"]), set(data.val_rows["image_id"])
    assert val == set(expected.index[expected["fold"] == 1]) and not train & val
    assert train | val == set(expected.index)
    seen = np.sort(torch.cat([rows for _, rows in data.val.epoch()]).numpy())
    assert list(seen) == list(range(len(val)))
    names = np.array(tables.task.target_names)
    assert list(names[data.train_targets.argmax(1)]) == list(data.train_rows["label"])
    assert list(names[data.val_targets.argmax(1)]) == list(data.val_rows["label"])
    assert data.train_images.ids == list(data.train_rows["image_id"])
    assert sum(len(rows) for _, rows in data.train_sample.epoch()) == len(data.train_sample_targets) == len(val)
    assert data.to_predict == 60 + 3 * 11
