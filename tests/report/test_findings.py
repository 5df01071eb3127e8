"""What is found in predictions, against scikit-learn and worked examples."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from pipeline.report import findings
from pipeline.tasks.classification import Classification
from pipeline.tasks.multilabel import Multilabel
from pipeline.tasks.regression import Regression

NAMES = ["cat", "dog", "eel"]


def drawn(rows: int = 200) -> tuple[Classification, pd.Series, np.ndarray, np.ndarray]:
    """A task, labels, targets and predictions that are right more often than not."""
    rng = np.random.default_rng(0)
    task = Classification(NAMES)
    labels = pd.Series(rng.choice(NAMES, rows, p=[0.6, 0.3, 0.1]))
    targets = task.targets(labels)
    return task, labels, targets, task.chances(1.5 * targets + rng.normal(size=targets.shape))


def test_classes_are_scored_as_scikit_learn_does() -> None:
    task, labels, _, predictions = drawn()
    decided = task.best(predictions, {})
    counts = findings.confusion_of(task, labels, predictions)
    assert np.array_equal(counts, confusion_matrix(labels, decided, labels=NAMES))
    table = findings.of_classes(counts, NAMES, [3.0, 1.0, 2.0])
    assert list(table["name"]) == ["cat", "eel", "dog"]  # the most expensive first
    expected = precision_recall_fscore_support(labels, decided, labels=["cat", "eel", "dog"])
    for column, values in zip(("precision", "recall", "f1", "images"), expected, strict=True):
        assert table[column].tolist() == pytest.approx(values)


def test_the_cost_of_a_class_is_what_the_metric_gains_without_its_mistakes() -> None:
    task, _, targets, predictions = drawn()
    truth = targets.argmax(axis=1)
    parts = [truth == place for place in range(3)]
    accuracy, log_loss = task.metric("accuracy"), task.metric("log_loss")
    wrong = predictions.argmax(axis=1) != truth
    costs = findings.cost_of_parts(task, accuracy, targets, task.values(accuracy, predictions, {}), parts)
    assert costs == pytest.approx([wrong[part].mean() * part.mean() for part in parts])
    losses = findings.cost_of_parts(task, log_loss, targets, predictions, parts)
    assert losses == pytest.approx(
        [task.costs(targets, predictions)[part].sum() / len(truth) for part in parts], abs=1e-6
    )
    assert findings.cost_of_parts(task, log_loss, targets, predictions, parts * 10**6) is None  # would take too long


def test_the_cost_of_a_tag() -> None:
    task = Multilabel(["a", "b"])
    metric = task.metric("sample_f1")
    targets, chosen = np.array([[1.0, 0], [1, 1]]), np.array([[1.0, 1], [1, 1]])
    parts = [(slice(None), 0), (slice(None), 1)]
    assert findings.cost_of_parts(task, metric, targets, chosen, parts) == pytest.approx([0, 1 - (2 / 3 + 1) / 2])
    assert findings.counts_of_tags(targets, chosen).tolist() == [[2, 0, 0], [1, 0, 1]]
    table = findings.of_tags(targets, chosen, ["a", "b"], [0.0, 1.0])
    assert list(table["name"]) == ["b", "a"] and table["precision"].tolist() == [0.5, 1.0]


def test_the_most_frequent_mistakes() -> None:
    counts = np.array([[5, 0, 2], [7, 9, 0], [0, 1, 3]])
    pairs = findings.worst_pairs(counts, NAMES, most=2)
    assert pairs.to_numpy().tolist() == [["dog", "cat", 7, 16], ["cat", "eel", 2, 7]]
    assert findings.worst_pairs(np.diag([1, 2, 3]), NAMES).empty


def test_reliability_is_that_of_scikit_learn() -> None:
    task, _, targets, predictions = drawn(500)
    given, right = findings.confidence_of(task, targets, predictions)
    table = findings.reliability(given, right)
    share, mean = calibration_curve(right, given, n_bins=10)
    there = table[table["count"] > 0]
    assert there["share"].tolist() == pytest.approx(share) and there["mean"].tolist() == pytest.approx(mean)
    assert table["count"].sum() == 500
    two = pd.DataFrame({"count": [3, 1], "mean": [0.5, 0.9], "share": [0.4, 0.5]})
    assert findings.calibration_error(two) == pytest.approx((3 * 0.1 + 1 * 0.4) / 4)
    assert findings.reliability(np.array([0.0, 1.0]), np.array([False, True]))["count"].tolist() == [1, *[0] * 8, 1]


def test_confident_predictions_that_may_be_wrong() -> None:
    given, right = np.array([0.95, 0.96, 0.5, 0.91]), np.array([True, False, False, True])
    table = findings.confident(given, right, np.array([0.99, 0.9, 0.2])).set_index("least")
    assert table.loc[0.9, ["images", "wrong", "test"]].tolist() == [3, 1, 2]
    assert table.loc[0.9, "share"] == pytest.approx(1 / 3) and table.loc[0.9, "expected"] == pytest.approx(2 * 2 / 5)
    assert table.loc[0.999, "images"] == 0 and np.isnan(table.loc[0.999, "share"])


def test_members_disagree_most_where_they_differ_most() -> None:
    same, other = np.array([[0.5, 0.5], [0.9, 0.1]]), np.array([[0.5, 0.5], [0.1, 0.9]])
    assert findings.disagreement(Classification(["a", "b"]), np.stack([same, other])).tolist() == pytest.approx(
        [0, 0.4]
    )
    numbers = np.array([[[0.0, 0], [2, 2000]], [[0.0, 0], [2, 0]]])
    assert findings.disagreement(Regression(["x", "y"]), numbers).argmax() == 1


def test_errors_by_range() -> None:
    task = Regression(["age"])
    labels = pd.Series(["1", "1", "5"])
    table = findings.of_ranges(task, labels, task.targets(labels), np.array([[2.0], [0.0], [8.0]]))
    assert table.to_numpy().tolist() == [["1", 2, 0.0, 1.0, 1.0], ["5", 1, 3.0, 3.0, 3.0]]


@pytest.mark.parametrize(
    ("losses", "said"),
    [
        ([4, 3, 2, 1, 0.9, 0.8, 0.5, 0.4], "still falling"),
        ([4, 3, 2, 1, 1, 1, 1, 1], "levelled off"),
        ([4, 3, 1, 0.5, 0.6, 0.7, 0.9, 1.1], "after its lowest value in epoch 4"),
    ],
)
def test_it_says_whether_the_loss_still_falls(losses: list[float], said: str) -> None:
    assert said in findings.still_improving({0: pd.DataFrame({"val_loss": losses})})


def test_nothing_is_said_of_few_epochs() -> None:
    assert findings.still_improving({0: pd.DataFrame({"val_loss": [1.0]})}) == ""
    assert findings.still_improving({0: pd.DataFrame({"train_loss": [1.0] * 9})}) == ""


def test_the_loss_of_each_fold() -> None:
    losses = findings.fold_losses(Classification(["a", "b"]), np.array([1, 0, 1]), np.array([1.0, 5.0, 3.0]))
    assert losses == {0: 5.0, 1: 2.0}
