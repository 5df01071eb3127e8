"""Weights of classes against scikit-learn's and the published formula."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from pipeline.system.errors import FoldwiseError
from pipeline.tasks.classification import Classification
from pipeline.tasks.multilabel import Multilabel
from pipeline.tasks.objective import Objective, class_weights
from pipeline.tasks.ordinal import Ordinal
from pipeline.tasks.regression import Regression
from tests.learner.networks import recipe

COUNTS = np.array([6.0, 3, 1])


def weights(choice: str | dict[str, float]) -> np.ndarray | None:
    return class_weights(Objective(class_weights=choice), ["a", "b", "c"], COUNTS, np.array([9.0, 9, 9]))


def test_weights() -> None:
    assert weights("none") is None
    assert weights("balanced") == pytest.approx([9, 9, 9])
    by_number = np.array([(1 - 0.999) / (1 - 0.999**count) for count in (6, 3, 1)])  # Cui et al. (2019), equation 2
    assert weights("effective") == pytest.approx(by_number / by_number.mean())
    assert weights({"b": 2.5}) == pytest.approx([1, 2.5, 1])
    with pytest.raises(FoldwiseError, match="'bb' is not a class; did you mean 'b'"):
        weights({"bb": 1})


def test_balanced_weights_are_scikit_learns_and_smoothing_is_torchs() -> None:
    labels = np.array([0] * 6 + [1] * 3 + [2])
    choices = recipe(class_weights="balanced", label_smoothing=0.1)
    loss = Classification(["a", "b", "c"]).loss(np.eye(3, dtype=np.float32)[labels], choices.objective)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    np.testing.assert_allclose(loss.weight.numpy(), expected, rtol=1e-6)  # type: ignore[operator]
    assert loss.label_smoothing == 0.1


def test_weights_of_tags_balance_the_rows_with_and_without_a_tag() -> None:
    everywhere = Multilabel(["a"]).loss(np.ones((4, 1), np.float32), Objective(class_weights="balanced"))
    assert everywhere.weight.tolist() == [0.25]  # type: ignore[operator]
    targets = np.array([[1, 0], [1, 0], [1, 1], [0, 0]], np.float32)
    loss = Multilabel(["a", "b"]).loss(targets, Objective(class_weights="balanced"))
    assert loss.weight.tolist() == pytest.approx([1 / 3, 3])  # type: ignore[operator]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"loss": "mse"}, "loss = 'mse' in the recipe does not apply to task = 'classification'"),
        ({"soft_grades": 0.5}, "soft_grades = 0.5 in the recipe has no effect for task = 'classification'"),
        ({"clip": False}, 'type SET="clip=true"'),
    ],
)
def test_settings_without_effect_are_refused(changes: dict, expected: str) -> None:
    with pytest.raises(FoldwiseError, match=expected):
        Classification(["a", "b"]).check_objective(recipe(**changes).objective)
    with pytest.raises(FoldwiseError, match=r"label_smoothing = 0\.1"):
        Regression(["x"]).check_objective(recipe(label_smoothing=0.1).objective)


def test_the_loss_of_the_mean_grade_takes_no_weights() -> None:
    with pytest.raises(FoldwiseError, match="no effect with loss = 'mse'"):
        Ordinal(["0", "1"]).check_objective(recipe(loss="mse", label_smoothing=0.1).objective)


def test_older_runs_stay_valid() -> None:
    """Keys that they lack count only if they are set."""
    assert not {"loss", "clip"} & recipe().choices.keys()
    assert recipe(loss="focal").choices["loss"] == "focal"
