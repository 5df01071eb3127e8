"""One label for each image."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
import pandas as pd

from pipeline.system.errors import InputError
from pipeline.tasks.metrics import Kind
from pipeline.tasks.objective import Objective, class_weights
from pipeline.tasks.scores import log_loss, losses_of_rows
from pipeline.tasks.task import Rule, Task

if TYPE_CHECKING:
    import torch


#: Smallest probability that is taken seriously as evidence.
LEAST_CHANCE = 1e-6


class Classification(Task):
    """Each image has one of C classes. Targets are one-hot, predictions are probabilities that sum to 1."""

    kind = "classification"
    compares: ClassVar[tuple[Kind, ...]] = ("classes",)
    default_metric, second_metric = "accuracy", "accuracy"
    losses: ClassVar[tuple[str, ...]] = ("cross_entropy", "focal", "bce")
    loss_settings: ClassVar[tuple[str, ...]] = ("class_weights", "label_smoothing")
    forms: ClassVar[tuple[str, ...]] = ("class", "index", "probability", "columns", "topk")
    noun = "class"
    prior_words = "the share of each class"
    picture = "confusion"

    def positions(self, labels: pd.Series) -> np.ndarray:
        """The position (N,) int of the class of each label."""
        positions = pd.Index(self.target_names).get_indexer(labels)
        if (positions < 0).any():
            raise InputError(f"the label '{labels.iloc[int((positions < 0).argmax())]}' is not one of the classes")
        return positions

    def targets(self, labels: pd.Series) -> np.ndarray:
        return np.eye(len(self.target_names), dtype=np.float32)[self.positions(labels)]

    def truth(self, targets: np.ndarray) -> np.ndarray:
        return targets.argmax(axis=1)

    def strata(self, labels: pd.Series) -> pd.Series:
        return labels

    def members(self, labels: pd.Series) -> dict[str, np.ndarray]:
        by_label = pd.Series(np.arange(len(labels))).groupby(labels.to_numpy()).indices
        return {name: by_label[name] for name in self.target_names if name in by_label}

    def loss(self, targets: np.ndarray, objective: Objective) -> torch.nn.Module:
        from pipeline.tasks.losses import class_loss

        counts = targets.sum(axis=0)
        balanced = counts.sum() / (len(counts) * np.maximum(counts, 1))  # scikit-learn's rule
        return class_loss(objective, class_weights(objective, self.target_names, counts, balanced))

    def fitted(self, targets: np.ndarray, objective: Objective) -> Self:
        return self.with_fit({"loss": "bce"} if objective.loss == "bce" else {})

    def predictions(self, logits: torch.Tensor) -> torch.Tensor:
        """Softmax; after binary cross-entropy, the probability of each class divided by their sum."""
        if "loss" in self.fitted_to:
            probs = logits.sigmoid()
            return probs / probs.sum(dim=1, keepdim=True).clamp_min(1e-12)
        return logits.softmax(dim=1)

    def val_loss(self, targets: np.ndarray, predictions: np.ndarray) -> float:
        return log_loss(targets.argmax(axis=1), predictions)

    def costs(self, targets: np.ndarray, predictions: np.ndarray) -> np.ndarray:
        return losses_of_rows(targets.argmax(axis=1), predictions)

    def prior(self, targets: np.ndarray) -> np.ndarray:
        return targets.mean(axis=0).astype(np.float32)

    def evidence(self, predictions: np.ndarray) -> np.ndarray:
        logs = np.log(predictions.clip(LEAST_CHANCE))
        return logs - logs.mean(axis=1, keepdims=True)

    def chances(self, evidence: np.ndarray) -> np.ndarray:
        weights = np.exp(evidence - evidence.max(axis=1, keepdims=True))
        return weights / weights.sum(axis=1, keepdims=True)

    def draw(self, chances: np.ndarray, uniform: np.ndarray, spread: np.ndarray) -> np.ndarray:
        return (uniform > chances.cumsum(axis=1)[:, :-1]).sum(axis=1)

    def uniform_columns(self, num_targets: int) -> int:
        return 1

    def best(self, predictions: np.ndarray, rule: Rule) -> list[str]:
        return [self.target_names[position] for position in self.decide(predictions, rule).argmax(axis=1)]

    def describe(self, prediction: np.ndarray, rule: Rule) -> str:
        """``"cat (93%)"``."""
        best = self.decide(prediction[None], rule)[0].argmax()
        return f"{self.target_names[best]} ({prediction[best]:.0%})"
