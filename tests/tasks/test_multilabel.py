"""Several labels for each image."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pipeline.system.errors import FoldwiseError
from pipeline.tasks.multilabel import Multilabel

TASK = Multilabel(["sea", "ship", "tanks"])
LABELS = pd.Series(["sea ship", "", "tanks"])


def test_targets_members_prior_and_words() -> None:
    targets = TASK.targets(LABELS)
    assert targets.tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 1]] and targets.dtype == np.float32
    members = {name: rows.tolist() for name, rows in TASK.members(LABELS).items()}
    assert members == {"sea": [0], "ship": [0], "tanks": [2], "(none)": [1]}
    assert TASK.prior(targets).tolist() == pytest.approx([1 / 3] * 3)
    rule = {"thresholds": [0.5, 0.5, 0.5], "fill": False}
    assert TASK.best(targets, rule) == ["sea ship", "", "tanks"]
    assert TASK.describe(np.array([0.6, 0.9, 0.1]), rule) == "ship, sea"
    assert TASK.describe(np.array([0.1, 0.1, 0.1]), rule) == "(none)"
    with pytest.raises(FoldwiseError, match="the label 'car' is not one of the classes"):
        TASK.targets(pd.Series(["sea car"]))


def test_names_with_spaces_need_another_separator() -> None:
    task = Multilabel(["ETT - Normal", "CVC - Normal"], ";")
    assert task.targets(pd.Series(["ETT - Normal;CVC - Normal", ""])).tolist() == [[1, 1], [0, 0]]


def test_the_default_threshold_follows_beta() -> None:
    assert TASK.default_rule(TASK.metric("sample_f2"))["thresholds"] == [0.2] * 3
    assert TASK.default_rule(TASK.metric("macro_f1"))["thresholds"] == [0.5] * 3


@pytest.mark.parametrize(
    ("metric", "labels", "fills"),
    [
        ("sample_f1", ["sea", "ship"], True),
        ("macro_f1", ["sea", "ship"], True),  # each image has a label, so an empty row is wrong
        ("macro_f1", ["sea", ""], False),  # images without a label exist, and the metric does not punish empty rows
        ("sample_f1", ["sea", ""], True),  # an empty row scores 0 in any case
    ],
)
def test_a_row_stays_empty_only_where_the_metric_allows_it(metric: str, labels: list[str], fills: bool) -> None:
    targets = TASK.targets(pd.Series(labels * 10))
    predictions = np.random.default_rng(0).random(targets.shape)
    for learner in TASK.learners(TASK.metric(metric)).values():
        rule = learner(targets, predictions)
        assert rule["fill"] is fills
    decided = TASK.decide(np.array([[0.01, 0.02, 0.01]]), {"thresholds": [0.5] * 3, "fill": True})
    assert decided.tolist() == [[0, 1, 0]]


def test_labels_are_drawn_as_often_as_predicted() -> None:
    mean = np.tile([0.9, 0.5, 0.1], (4000, 1))
    uniform = np.random.default_rng(0).random(mean.shape)
    assert TASK.draw(mean, uniform, np.zeros(3)).mean(axis=0) == pytest.approx([0.9, 0.5, 0.1], abs=0.02)
    np.testing.assert_allclose(TASK.chances(TASK.evidence(mean)), mean)
