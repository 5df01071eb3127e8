"""The weights of a trained fold come back as a model, if they belong to the run."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from pipeline.learner.trained import load_folds
from pipeline.records.job import make_job
from pipeline.records.paths import Paths
from pipeline.records.runs import open_run
from pipeline.system.errors import FoldwiseError
from tests.conftest import Stage


def test_the_weights_of_a_fold(split: Paths, stage: Stage) -> None:
    stage("train", "--fold", "0", "--set", "epochs=1")
    job = make_job("shapes", settings=["epochs=1"])
    tables = open_run(job)
    models, preprocessing = load_folds(job, [0], tables.identity, tables.task)
    saved = load_file(job.fold_folder(0) / "weights.safetensors")
    state = models[0].module.state_dict()
    assert state.keys() == saved.keys() and all(torch.equal(state[key], saved[key]) for key in saved)
    assert not models[0].module.training and len(preprocessing.mean) == 3
    with pytest.raises(FoldwiseError, match="epochs was 1 and is now 2"):
        load_folds(job, [0], {**tables.identity, "epochs": 2}, tables.task)
    (job.fold_folder(0)).rename(job.fold_folder(1))
    with pytest.raises(FoldwiseError, match="another fold"):
        load_folds(job, [1], tables.identity, tables.task)
