"""Defines what a kind of task is: everything that depends on what a label means.

To add a kind of task, write a class with the methods of ``Task``, add a line to TASKS in kinds.py and to ``task`` in
records/competition.py, and a test. The training loop knows targets and predictions only.

Legend: N rows, C targets (classes, tags, or numbers), B rows of a batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import pandas as pd

from pipeline.system.errors import InputError
from pipeline.tasks.metrics import Kind, Metric, find_metric, names_of_metrics
from pipeline.tasks.objective import Objective

if TYPE_CHECKING:  # only the learner imports torch
    import torch

#: How predictions become decisions, as score.json holds it: thresholds or cut points; {} if nothing is learnt.
Rule = dict[str, Any]
#: Learns a rule from targets (N, C) and predictions (N, C).
Learner = Callable[[np.ndarray, np.ndarray], Rule]


class Task(ABC):
    """A task of one kind, with the targets of one competition.

    target_names: names of the C columns of targets and predictions, in the order of every file
    separator: what separates several names or numbers in a label of manifest.csv
    fitted_to: what the task learnt from the train targets of a fold; JSON values
    """

    kind: ClassVar[str]
    #: What metrics of this task compare; the first kind is that of the user's own metrics.
    compares: ClassVar[tuple[Kind, ...]]
    default_metric: ClassVar[str]
    #: A metric that is shown beside the chosen one.
    second_metric: ClassVar[str] = ""
    #: Names of the losses that a recipe can choose; the first is the default.
    losses: ClassVar[tuple[str, ...]]
    #: Settings of the loss, apart from its name, that have an effect.
    loss_settings: ClassVar[tuple[str, ...]]
    #: Values of ``[submission] value`` (forms.py); the first is the default.
    forms: ClassVar[tuple[str, ...]]
    #: What ``members`` are called.
    noun: ClassVar[str]
    #: What an image that cannot be read is predicted to be.
    prior_words: ClassVar[str]
    #: The picture of all validation predictions: "confusion", "tags" or "scatter".
    picture: ClassVar[str]

    def __init__(
        self, target_names: Sequence[str], separator: str = " ", fitted_to: dict[str, Any] | None = None
    ) -> None:
        self.target_names, self.separator, self.fitted_to = list(target_names), separator, fitted_to or {}

    # Labels and targets

    @abstractmethod
    def targets(self, labels: pd.Series) -> np.ndarray:
        """Targets (N, C) float32 of labels (N,) str; raises FoldwiseError for an invalid label."""

    @abstractmethod
    def truth(self, targets: np.ndarray) -> np.ndarray:
        """What a metric compares with, (N, ...), from targets (N, C)."""

    @abstractmethod
    def strata(self, labels: pd.Series) -> pd.Series | np.ndarray:
        """What the folds are stratified by, from labels (N,): one text for each row (N,), or a 0/1 matrix (N, C)."""

    @abstractmethod
    def members(self, labels: pd.Series) -> dict[str, np.ndarray]:
        """Rows (int, ascending) of each class, tag, or range of numbers, by its name, from labels (N,)."""

    # Training

    def fitted(self, targets: np.ndarray, objective: Objective) -> Self:
        """The task for a fold with these train targets (N, C)."""
        return self

    def with_fit(self, fitted_to: dict[str, Any]) -> Self:
        """The task of a trained fold, from what it was fitted to."""
        return type(self)(self.target_names, self.separator, fitted_to)

    @abstractmethod
    def loss(self, targets: np.ndarray, objective: Objective) -> torch.nn.Module:
        """The loss of logits (B, C) and targets (B, C), given all train targets (N, C) of the fold."""

    @abstractmethod
    def predictions(self, logits: torch.Tensor) -> torch.Tensor:
        """Predictions (B, C) float of logits (B, C)."""

    @abstractmethod
    def val_loss(self, targets: np.ndarray, predictions: np.ndarray) -> float:
        """The validation loss that is logged, from targets (M, C) and predictions (M, C)."""

    @abstractmethod
    def costs(self, targets: np.ndarray, predictions: np.ndarray) -> np.ndarray:
        """What each row adds to the validation loss, (M,): the dearest rows are the worst mistakes."""

    @abstractmethod
    def prior(self, targets: np.ndarray) -> np.ndarray:
        """The prediction (C,) float32 for an image that cannot be read, from all train targets (N, C)."""

    def check_objective(self, objective: Objective) -> None:
        """Raises FoldwiseError if the recipe sets something of the loss that does not apply to this kind of task."""
        if objective.loss not in (None, *self.losses):
            raise InputError(
                f"loss = '{objective.loss}' in the recipe does not apply to task = '{self.kind}'; choose one of "
                f"{', '.join(self.losses)}"
            )
        default = Objective()
        for name in ("class_weights", "label_smoothing", "soft_grades", "clip"):
            if name not in self.loss_settings and getattr(objective, name) != getattr(default, name):
                raise InputError(
                    f"{name} = {getattr(objective, name)!r} in the recipe has no effect for task = '{self.kind}'; "
                    f'leave it out, or type SET="{name}={str(getattr(default, name)).lower()}"'
                )

    # Scores

    def metric(self, name: str) -> Metric:
        """The metric of this name; raises FoldwiseError if it does not apply to this kind of task."""
        for kind in self.compares:
            if metric := find_metric(name, kind):
                return metric
        raise InputError(
            f"metric = '{name}' does not apply to task = '{self.kind}'; choose one of {names_of_metrics(self.compares)}"
        )

    def default_rule(self, metric: Metric) -> Rule:
        """The rule without anything learnt."""
        return {}

    def learners(self, metric: Metric) -> dict[str, Learner]:
        """Ways to learn a rule for a metric of decisions, by name, the simplest first; {} if the rule is fixed."""
        return {}

    def decide(self, predictions: np.ndarray, rule: Rule) -> np.ndarray:
        """Decisions (N, C) by predictions (N, C): ones where a class or tag is chosen."""
        return predictions

    def values(self, metric: Metric, predictions: np.ndarray, rule: Rule) -> np.ndarray:
        """What the metric looks at, (N, ...), from predictions (N, C)."""
        return self.decide(predictions, rule) if metric.decided else predictions

    def compared(self, metric: Metric, truth: np.ndarray) -> np.ndarray:
        """What this metric compares the values with, from the truth (N, ...)."""
        return truth

    def judge(self, metric: Metric, truth: np.ndarray, predictions: np.ndarray, rule: Rule) -> float:
        """The metric of predictions (N, C) for a truth (N, ...)."""
        return metric(self.compared(metric, truth), self.values(metric, predictions, rule))

    def score(self, metric: Metric, targets: np.ndarray, predictions: np.ndarray, rule: Rule | None = None) -> float:
        """The metric of predictions (N, C) for targets (N, C); rule: None for the default rule."""
        return self.judge(metric, self.truth(targets), predictions, self.default_rule(metric) if rule is None else rule)

    # What averaging is worth (averaging.py)

    @abstractmethod
    def evidence(self, predictions: np.ndarray) -> np.ndarray:
        """What the predictions (N, C) say of the labels, (N, C), on a scale on which models can be averaged."""

    @abstractmethod
    def chances(self, evidence: np.ndarray) -> np.ndarray:
        """The inverse of ``evidence``, (N, C)."""

    @abstractmethod
    def draw(self, chances: np.ndarray, uniform: np.ndarray, spread: np.ndarray) -> np.ndarray:
        """A truth (N, ...) drawn from the chances (N, C).

        uniform: numbers (N, ``uniform_columns``) from 0 to 1 that decide the draw
        spread: (C,) standard deviation of numbers around the chances; classes and tags do not need it
        """

    def uniform_columns(self, num_targets: int) -> int:
        """Number of random numbers that ``draw`` needs for each row."""
        return num_targets

    # What people see

    @abstractmethod
    def best(self, predictions: np.ndarray, rule: Rule) -> list[str]:
        """The predicted label of each row, as in manifest.csv, from predictions (N, C)."""

    @abstractmethod
    def describe(self, prediction: np.ndarray, rule: Rule) -> str:
        """One prediction (C,) in a few words, as the title of a picture."""

    def verdict(self, prediction: np.ndarray, label: str, rule: Rule) -> tuple[str, bool]:
        """The title of a picture with a prediction (C,) and its true label, and whether the prediction is wrong."""
        is_wrong = self.best(prediction[None], rule)[0] != label
        return self.describe(prediction, rule) + (f"\nis {label}" if is_wrong else ""), is_wrong

    def numbers(self, predictions: np.ndarray) -> np.ndarray:
        """One number (N,) for each row, from predictions (N, C), for forms that submit a number."""
        return predictions[:, 0]

    @property
    def columns(self) -> list[str]:
        """Names of the prediction columns of oof.csv and test.csv."""
        return [f"p_{name}" for name in self.target_names]

    def table(self, predictions: np.ndarray) -> pd.DataFrame:
        """Predictions (N, C) as named columns."""
        return pd.DataFrame(predictions, columns=self.columns)
