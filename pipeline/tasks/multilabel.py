"""Any number of labels (tags) for each image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from pipeline.system.errors import InputError
from pipeline.tasks.classification import LEAST_CHANCE
from pipeline.tasks.metrics import Metric
from pipeline.tasks.objective import Objective, class_weights
from pipeline.tasks.scores import tag_log_loss, tag_losses
from pipeline.tasks.task import Learner, Rule, Task
from pipeline.tasks.thresholds import common_threshold, threshold_for_each

if TYPE_CHECKING:
    import torch


class Multilabel(Task):
    """Each image has any of C tags. Targets are 0 or 1, predictions are probabilities, one for each tag.

    Rule: {"thresholds": (C,), "fill": true if a row without any tag gets its most probable one}
    """

    kind = "multilabel"
    compares = ("tags",)
    default_metric = "sample_f1"
    losses = ("bce", "focal")
    loss_settings = ("class_weights", "label_smoothing")
    forms = ("labels", "columns", "binary", "topk", "probability")
    noun = "label"
    prior_words = "the share of each label"
    picture = "tags"

    def names_in(self, label: str) -> list[str]:
        """The tags in a label of manifest.csv."""
        return label.split(self.separator) if label else []

    def targets(self, labels: pd.Series) -> np.ndarray:
        position = {name: place for place, name in enumerate(self.target_names)}
        targets = np.zeros((len(labels), len(position)), np.float32)
        for row, label in enumerate(labels):
            for name in self.names_in(label):
                if name not in position:
                    raise InputError(f"the label '{name}' is not one of the classes")
                targets[row, position[name]] = 1
        return targets

    def truth(self, targets: np.ndarray) -> np.ndarray:
        return targets

    def strata(self, labels: pd.Series) -> np.ndarray:
        """The targets, and a column for rows without a label."""
        return np.column_stack([self.targets(labels), labels == ""])

    def members(self, labels: pd.Series) -> dict[str, np.ndarray]:
        found = {name: np.flatnonzero(has) for name, has in zip(self.target_names, self.targets(labels).T, strict=True)}
        without = np.flatnonzero((labels == "").to_numpy())
        return {name: rows for name, rows in found.items() if len(rows)} | ({"(none)": without} if len(without) else {})

    def loss(self, targets: np.ndarray, objective: Objective) -> torch.nn.Module:
        from pipeline.tasks.losses import BinaryLoss, as_tensor

        counts = targets.sum(axis=0)
        balanced = np.maximum(len(targets) - counts, 1) / np.maximum(counts, 1)
        weights = class_weights(objective, self.target_names, counts, balanced)
        gamma = objective.focal_gamma if objective.loss == "focal" else 0
        return BinaryLoss(None if weights is None else as_tensor(weights), objective.label_smoothing, gamma)

    def predictions(self, logits: torch.Tensor) -> torch.Tensor:
        return logits.sigmoid()

    def val_loss(self, targets: np.ndarray, predictions: np.ndarray) -> float:
        return tag_log_loss(targets, predictions)

    def costs(self, targets: np.ndarray, predictions: np.ndarray) -> np.ndarray:
        return tag_losses(targets, predictions).mean(axis=1)

    def prior(self, targets: np.ndarray) -> np.ndarray:
        return targets.mean(axis=0).astype(np.float32)

    def default_rule(self, metric: Metric) -> Rule:
        """Thresholds of 0.5; for F-beta, 1 / (1 + beta**2), the upper bound of the best one (Ye et al., 2012)."""
        threshold = 0.5 if metric.beta is None else 1 / (1 + metric.beta**2)
        return {"thresholds": [threshold] * len(self.target_names), "fill": False}

    def learners(self, metric: Metric) -> dict[str, Learner]:
        def rule(thresholds: np.ndarray, targets: np.ndarray) -> Rule:
            # An empty row scores 0 if each image has a tag, and if the metric is the mean of the scores of the rows.
            fill = bool((targets.sum(axis=1) > 0).all()) or metric.name.startswith("sample_")
            return {"thresholds": [float(value) for value in thresholds], "fill": fill}

        def unlearnt(targets: np.ndarray, predictions: np.ndarray) -> Rule:
            return rule(np.array(self.default_rule(metric)["thresholds"]), targets)

        def common(targets: np.ndarray, predictions: np.ndarray) -> Rule:
            return rule(np.full(targets.shape[1], common_threshold(metric, targets, predictions)), targets)

        def each(targets: np.ndarray, predictions: np.ndarray) -> Rule:
            return rule(threshold_for_each(metric, targets, predictions), targets)

        found: dict[str, Learner] = {"the default threshold": unlearnt, "one threshold for all labels": common}
        return found | ({"a threshold for each label": each} if metric.beta is not None else {})

    def decide(self, predictions: np.ndarray, rule: Rule) -> np.ndarray:
        chosen = predictions >= np.array(rule["thresholds"])
        if rule["fill"]:
            empty = ~chosen.any(axis=1)
            chosen[empty, predictions[empty].argmax(axis=1)] = True
        return chosen.astype(predictions.dtype)

    def evidence(self, predictions: np.ndarray) -> np.ndarray:
        clipped = predictions.clip(LEAST_CHANCE, 1 - LEAST_CHANCE)
        return np.log(clipped / (1 - clipped))

    def chances(self, evidence: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-evidence))

    def draw(self, chances: np.ndarray, uniform: np.ndarray, spread: np.ndarray) -> np.ndarray:
        return (uniform < chances).astype(np.float32)

    def best(self, predictions: np.ndarray, rule: Rule) -> list[str]:
        chosen = self.decide(predictions, rule) > 0
        return [self.separator.join(np.array(self.target_names, object)[row]) for row in chosen]

    def verdict(self, prediction: np.ndarray, label: str, rule: Rule) -> tuple[str, bool]:
        """``"missed: cars, trees\nfalse: sand"``, or the labels if they are all right."""
        chosen, there = self.names_in(self.best(prediction[None], rule)[0]), self.names_in(label)
        missed, false = (
            [name for name in one if name not in other] for one, other in ((there, chosen), (chosen, there))
        )
        faults = [f"{word}: {', '.join(names)}" for word, names in (("missed", missed), ("false", false)) if names]
        return "\n".join(faults) or self.describe(prediction, rule), bool(faults)

    def describe(self, prediction: np.ndarray, rule: Rule) -> str:
        """``"pavement, trees, cars"``."""
        chosen = np.flatnonzero(self.decide(prediction[None], rule)[0])
        ordered = chosen[np.argsort(-prediction[chosen], kind="stable")]
        return ", ".join(self.target_names[place] for place in ordered) or "(none)"
