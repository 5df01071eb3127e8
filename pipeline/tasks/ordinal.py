"""One grade for each image: classes that have an order."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.system.errors import InputError
from pipeline.tasks.classification import Classification
from pipeline.tasks.metrics import Metric
from pipeline.tasks.objective import Objective
from pipeline.tasks.regression import number
from pipeline.tasks.task import Learner, Rule

if TYPE_CHECKING:
    import torch

#: Cut points that are tried for each grade, and how often all of them are gone through at most.
CANDIDATES, ROUNDS = 40, 6


class Ordinal(Classification):
    """Each image has one of C grades. Targets are one-hot, predictions are probabilities, as in classification.

    The grade of an image is its most probable one, or its mean grade between cut points: what scores better out of
    fold. The value of a grade is its name if all names are numbers in ascending order, else its place from 0.

    Rule: {"cut_points": (C - 1,) mean grades from which on the next grade is chosen}, or {} for the most probable grade
    """

    kind = "ordinal"
    compares = ("classes", "numbers")
    default_metric = "quadratic_kappa"
    losses = ("cross_entropy", "mse", "l1", "huber", "focal")
    loss_settings = ("class_weights", "label_smoothing", "soft_grades")
    forms = ("class", "number", "rounded", "index", "probability", "columns")
    noun = "grade"
    prior_words = "the share of each grade"

    def __init__(
        self, target_names: Sequence[str], separator: str = " ", fitted_to: dict[str, Any] | None = None
    ) -> None:
        super().__init__(target_names, separator, fitted_to)
        values = [number(name) for name in target_names]
        are_values = None not in values and all(one < two for one, two in pairwise(values))  # type: ignore[operator]
        self.grades = np.array(values if are_values else range(len(values)), float)

    def check_objective(self, objective: Objective) -> None:
        super().check_objective(objective)
        changed = objective.class_weights != "none" or objective.label_smoothing
        if objective.loss in ("mse", "l1", "huber") and changed:
            raise InputError(
                f"class_weights and label_smoothing have no effect with loss = '{objective.loss}'; leave them out, "
                "or choose loss = 'cross_entropy' in the recipe"
            )

    def loss(self, targets: np.ndarray, objective: Objective) -> torch.nn.Module:
        from pipeline.tasks.losses import NUMBER_LOSSES, MeanGradeLoss, SoftTargets

        if objective.loss in NUMBER_LOSSES:
            return MeanGradeLoss(objective.loss, self.grades)
        loss = super().loss(targets, objective)
        if not objective.soft_grades:
            return loss
        distance = (self.grades - self.grades[:, None]) / objective.soft_grades
        spread = np.exp(-(distance**2) / 2)
        return SoftTargets(loss, spread / spread.sum(axis=1, keepdims=True))

    def numbers(self, predictions: np.ndarray) -> np.ndarray:
        """The mean grade (N,) under the probabilities."""
        return predictions @ self.grades

    def default_rule(self, metric: Metric) -> Rule:
        """The nearest grade to the mean grade."""
        return {"cut_points": [float(value) for value in (self.grades[1:] + self.grades[:-1]) / 2]}

    def learners(self, metric: Metric) -> dict[str, Learner]:
        def nearest(targets: np.ndarray, predictions: np.ndarray) -> Rule:
            return self.default_rule(metric)

        def most_probable(targets: np.ndarray, predictions: np.ndarray) -> Rule:
            return {}

        def cut(targets: np.ndarray, predictions: np.ndarray) -> Rule:
            return {"cut_points": self.cut_points(metric, targets, predictions)}

        return {
            "the nearest grade to the mean grade": nearest,
            "the most probable grade": most_probable,
            "cut points of the mean grade": cut,
        }

    def cut_points(self, metric: Metric, targets: np.ndarray, predictions: np.ndarray) -> list[float]:
        """The cut points of the mean grade with the best score, by coordinate ascent from the nearest grade.

        It also starts from the cut points that give each grade its true share, and takes the better result.
        """
        truth, means = self.truth(targets), self.numbers(predictions)
        tried = np.unique(np.quantile(means, np.linspace(0, 1, CANDIDATES * (len(self.grades) - 1))))
        one_hot = np.eye(len(self.grades))

        def score(cuts: np.ndarray) -> float:
            value = metric(truth, one_hot[np.searchsorted(cuts, means, side="right")])
            return -np.inf if np.isnan(value) else value if metric.greater_is_better else -value

        def ascend(cuts: np.ndarray) -> tuple[float, np.ndarray]:
            best = score(cuts)
            for _ in range(ROUNDS):
                before = best
                for place in range(len(cuts)):
                    low = cuts[place - 1] if place else -np.inf
                    high = cuts[place + 1] if place + 1 < len(cuts) else np.inf
                    between = tried[(tried > low) & (tried < high)]
                    for value in between[:: max(1, len(between) // CANDIDATES)]:
                        moved = cuts.copy()
                        moved[place] = value
                        if (found := score(moved)) > best:
                            best, cuts = found, moved
                if best <= before:
                    break
            return best, cuts

        shares = np.bincount(truth, minlength=len(self.grades)).cumsum()[:-1] / len(truth)
        starts = [np.array(self.default_rule(metric)["cut_points"]), np.quantile(means, shares)]
        return [float(value) for value in max((ascend(start) for start in starts), key=lambda found: found[0])[1]]

    def decide(self, predictions: np.ndarray, rule: Rule) -> np.ndarray:
        if "cut_points" in rule:
            grade = np.searchsorted(rule["cut_points"], self.numbers(predictions), side="right")
        else:
            grade = predictions.argmax(axis=1)
        return np.eye(len(self.grades), dtype=predictions.dtype)[grade]

    def values(self, metric: Metric, predictions: np.ndarray, rule: Rule) -> np.ndarray:
        if metric.of == "numbers":
            return self.numbers(predictions)[:, None]
        return super().values(metric, predictions, rule)

    def compared(self, metric: Metric, truth: np.ndarray) -> np.ndarray:
        return self.grades[truth][:, None] if metric.of == "numbers" else truth

    def describe(self, prediction: np.ndarray, rule: Rule) -> str:
        """``"2 (mean grade 1.84 of 0 to 4)"``."""
        mean, (low, high) = self.numbers(prediction[None])[0], (self.grades.min(), self.grades.max())
        return f"{self.best(prediction[None], rule)[0]} (mean grade {mean:.2f} of {low:g} to {high:g})"

    def verdict(self, prediction: np.ndarray, label: str, rule: Rule) -> tuple[str, bool]:
        """``"2 (mean 1.84)\nis 1"``."""
        best = self.best(prediction[None], rule)[0]
        title = f"{best} (mean {self.numbers(prediction[None])[0]:.2f})"
        return title + (f"\nis {label}" if best != label else ""), best != label
