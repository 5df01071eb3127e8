"""NaN and infinite losses and weights are found and never saved."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

from pipeline.learner.divergence import require_finite
from pipeline.records.paths import Paths
from pipeline.system.errors import FoldwiseError
from tests.conftest import Failure, Stage
from tests.trainings import tiny_training


def test_numbers_that_are_none(split: Paths, stage: Stage, failure: Failure, tmp_path: Path) -> None:
    """A loss that is not a number, an infinite gradient behind a finite loss, and a finite run with bad weights."""
    settings = ["lr=1e30", "optimizer=sgd", "epochs=4"]
    message = failure("train", "--fold", "0", "--set", *settings)
    assert re.search(
        r"(the loss is (nan|inf)|a weight is NaN or infinite) after step \d at lr = \S+e\+(29|30)", message
    )
    folder = next(split.runs.glob("*/fold0"))
    batches = json.loads((folder / "diverged.json").read_text())["last_batches"]
    assert all(len(batch) == 16 for batch in batches) and batches[-1][0].split("_")[0] in ("circle", "square")
    assert not list(folder.glob("weights*")) and not list(folder.glob("checkpoints/*"))

    ids, lr_of = [f"i{row}" for row in range(6)], lambda _: 0.5
    training = tiny_training()
    require_finite(training, ids, lr_of, tmp_path)
    training.module.state_dict()["2.weight"][0, 0] = torch.inf
    with pytest.raises(FoldwiseError, match="a weight is NaN or infinite after step 1"):
        require_finite(training, ids, lr_of, tmp_path)
    training = tiny_training()
    for loss in (0.3, torch.nan, 0.2):
        training.add(torch.tensor(loss), torch.zeros(6, 2), torch.arange(6).flip(0))
    with pytest.raises(FoldwiseError, match=r"the loss is nan after step 3 at lr = 0\.5, on a batch with 'i5'"):
        require_finite(training, ids, lr_of, tmp_path)
