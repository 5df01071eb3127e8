"""Defines the kinds of tasks: everything that depends on what a label is. Classification is the only one so far.

To add a kind of task, write a class with the methods of ``Task``, add a line to TASKS and to ``task`` of
competition.py, and a test to tests/records/test_task.py. The training loop uses only targets and predictions.

Legend: N rows, C targets (in classification: the classes), B rows of a batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd

from pipeline.records.metrics import METRICS
from pipeline.records.tables import sorted_ids
from pipeline.system.errors import InputError

if TYPE_CHECKING:  # only the learner imports torch
    import torch

    from pipeline.records.competition import Competition, Submission
    from pipeline.records.recipe import Recipe


class Task(ABC):
    """A task of one kind, with the targets of one competition.

    target_names: names of the C columns of targets and predictions, in the order of every file
    validation_loss: name of the metric that is logged as validation loss
    """

    validation_loss: ClassVar[str]

    def __init__(self, target_names: Sequence[str]) -> None:
        self.target_names = list(target_names)

    @abstractmethod
    def targets(self, labels: pd.Series) -> np.ndarray:
        """Targets (N, C) float32 of labels (N,) str; raises FoldwiseError for an invalid label."""

    @abstractmethod
    def truth(self, targets: np.ndarray) -> np.ndarray:
        """What a metric compares the predictions with, (N, ...), from targets (N, C)."""

    @abstractmethod
    def loss(self, targets: np.ndarray, recipe: Recipe) -> torch.nn.Module:
        """The loss of logits (B, C) and targets (B, C), given all training targets (N, C)."""

    @abstractmethod
    def predictions(self, logits: torch.Tensor) -> torch.Tensor:
        """Predictions (B, C) float of logits (B, C)."""

    @abstractmethod
    def prior(self, targets: np.ndarray) -> np.ndarray:
        """The prediction (C,) float32 for an image that cannot be read, from all training targets (N, C)."""

    @abstractmethod
    def strata(self, labels: pd.Series) -> pd.Series:
        """What the folds are stratified by (N,), from labels (N,)."""

    @abstractmethod
    def cells(self, predictions: np.ndarray, form: Submission) -> pd.DataFrame:
        """The columns of the submission after the id, as text, from predictions (N, C).

        Raises FoldwiseError if [submission] names a class that does not exist.
        """

    @abstractmethod
    def describe(self, prediction: np.ndarray) -> str:
        """One prediction (C,) in a few words, as the title of a picture."""

    @abstractmethod
    def best(self, predictions: np.ndarray) -> list[str]:
        """The most likely label of each prediction (N, C)."""

    @property
    def columns(self) -> list[str]:
        """Names of the prediction columns of oof.csv and test.csv."""
        return [f"p_{name}" for name in self.target_names]

    def table(self, predictions: np.ndarray) -> pd.DataFrame:
        """Predictions (N, C) as named columns."""
        return pd.DataFrame(predictions, columns=self.columns)

    def score(self, metric: str, targets: np.ndarray, predictions: np.ndarray) -> float:
        """The named metric of predictions (N, C) for targets (N, C)."""
        return METRICS[metric](self.truth(targets), predictions)


class Classification(Task):
    """Each image has one of C classes. Targets are one-hot, predictions are probabilities that sum to 1."""

    validation_loss = "log_loss"

    def targets(self, labels: pd.Series) -> np.ndarray:
        positions = pd.Index(self.target_names).get_indexer(labels)
        if (positions < 0).any():
            raise InputError(f"the label '{labels.iloc[int((positions < 0).argmax())]}' is not one of the classes")
        return np.eye(len(self.target_names), dtype=np.float32)[positions]

    def truth(self, targets: np.ndarray) -> np.ndarray:
        return targets.argmax(axis=1)

    def loss(self, targets: np.ndarray, recipe: Recipe) -> torch.nn.Module:
        """Cross-entropy with label smoothing; class weights are N / (C * count) if balanced (scikit-learn's rule)."""
        import torch

        weight = None
        if recipe.class_weights == "balanced":
            counts = targets.sum(axis=0)
            weight = torch.tensor(counts.sum() / (len(counts) * np.maximum(counts, 1)), dtype=torch.float32)
        return torch.nn.CrossEntropyLoss(weight=weight, label_smoothing=recipe.label_smoothing)

    def predictions(self, logits: torch.Tensor) -> torch.Tensor:
        return logits.softmax(dim=1)

    def prior(self, targets: np.ndarray) -> np.ndarray:
        """The share of each class."""
        return targets.mean(axis=0).astype(np.float32)

    def strata(self, labels: pd.Series) -> pd.Series:
        return labels

    def cells(self, predictions: np.ndarray, form: Submission) -> pd.DataFrame:
        names, header = self.target_names, form.columns[1:]
        if form.value == "probability":
            if form.positive not in names:
                raise InputError(
                    f"[submission] positive = '{form.positive}' is not one of the classes {', '.join(names)}"
                )
            return pd.DataFrame({header[0]: [f"{p:.8g}" for p in predictions[:, names.index(form.positive)]]})
        if form.value == "columns":
            if sorted(header) != sorted(names):
                raise InputError(
                    f"[submission] columns must be the id and every class, {', '.join(names)}, not {', '.join(header)}"
                )
            return pd.DataFrame({name: [f"{p:.8g}" for p in predictions[:, names.index(name)]] for name in header})
        best = predictions.argmax(axis=1)
        return pd.DataFrame({header[0]: [names[c] if form.value == "class" else str(c) for c in best]})

    def describe(self, prediction: np.ndarray) -> str:
        """``"cat (93%)"``."""
        best = prediction.argmax()
        return f"{self.target_names[best]} ({prediction[best]:.0%})"

    def best(self, predictions: np.ndarray) -> list[str]:
        return [self.target_names[position] for position in predictions.argmax(axis=1)]


TASKS: dict[str, type[Task]] = {"classification": Classification}


def task_of(competition: Competition, train_labels: pd.Series) -> Task:
    """The task of a competition; its classes are those of competition.toml, else the sorted labels (N,)."""
    return TASKS[competition.task](competition.classes or sorted_ids(train_labels.unique()))
