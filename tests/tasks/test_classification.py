"""One label for each image."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline.system.errors import FoldwiseError
from pipeline.tasks.classification import Classification

TASK = Classification(["cat", "dog"])


def test_targets_members_and_words() -> None:
    labels = pd.Series(["dog", "cat", "dog"])
    assert TASK.targets(labels).tolist() == [[0, 1], [1, 0], [0, 1]]
    assert {name: rows.tolist() for name, rows in TASK.members(labels).items()} == {"cat": [1], "dog": [0, 2]}
    assert TASK.prior(TASK.targets(labels)).tolist() == pytest.approx([1 / 3, 2 / 3])
    assert TASK.describe(np.array([0.93, 0.07]), {}) == "cat (93%)"
    with pytest.raises(FoldwiseError, match="the label 'cow' is not one of the classes"):
        TASK.targets(pd.Series(["cow"]))


def test_predictions_are_a_softmax() -> None:
    logits = torch.tensor([[0.0, np.log(3)]])
    assert TASK.predictions(logits)[0].tolist() == pytest.approx([0.25, 0.75])
