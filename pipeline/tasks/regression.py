"""One number, or several, for each image."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Self

import numpy as np
import pandas as pd

from pipeline.system.errors import InputError
from pipeline.tasks.metrics import Metric
from pipeline.tasks.objective import Objective
from pipeline.tasks.task import Rule, Task

if TYPE_CHECKING:
    import torch

#: Up to MAX_VALUES different values, each is shown by itself, otherwise as up to RANGES ranges with about as many rows.
MAX_VALUES, RANGES = 12, 8
#: Smallest number of rows in a range.
ROWS_OF_RANGE = 10


class Regression(Task):
    """Each image has T numbers. Targets and predictions are in the units of the labels.

    The network is trained on standardised targets. Mean, standard deviation and range are those of the train targets of
    the fold, and are kept with its weights.
    """

    kind = "regression"
    compares = ("numbers",)
    default_metric = "rmse"
    losses = ("mse", "l1", "huber")
    loss_settings = ("clip",)
    forms = ("number", "rounded", "columns")
    noun = "range"
    prior_words = "the mean of the train labels"
    picture = "scatter"

    def targets(self, labels: pd.Series) -> np.ndarray:
        rows = [label.split(self.separator) for label in labels]
        wrong = next((row for row in rows if len(row) != len(self.target_names) or None in map(number, row)), None)
        if wrong is not None:
            raise InputError(
                f"the label '{self.separator.join(wrong)}' is not {len(self.target_names)} numbers"
                if len(self.target_names) > 1
                else f"the label '{self.separator.join(wrong)}' is not a number"
            )
        return np.array(rows, np.float32).reshape(len(rows), len(self.target_names))

    def truth(self, targets: np.ndarray) -> np.ndarray:
        return targets

    def strata(self, labels: pd.Series) -> pd.Series:
        """Ranges with as many rows each: 2 * N**(1/3) of them (Rice's rule), and at least ten rows in each."""
        rank = self.targets(labels).argsort(axis=0).argsort(axis=0).mean(axis=1)
        ranges = max(1, min(math.ceil(2 * len(labels) ** (1 / 3)), len(labels) // ROWS_OF_RANGE))
        return pd.Series(pd.qcut(rank, ranges, labels=False, duplicates="drop").astype(str), index=labels.index)

    def members(self, labels: pd.Series) -> dict[str, np.ndarray]:
        """By ranges of the first number."""
        numbers = self.targets(labels)[:, 0].astype(float)
        values = np.unique(numbers)
        if len(values) <= MAX_VALUES:
            return {f"{value:.10g}": np.flatnonzero(numbers == value) for value in values}
        ranges = max(1, min(RANGES, len(numbers) // ROWS_OF_RANGE))
        edges = np.unique(np.quantile(numbers, np.linspace(0, 1, ranges + 1), method="nearest"))
        prefix = f"{self.target_names[0]} " if len(self.target_names) > 1 else ""
        found = {}
        for place, (low, high) in enumerate(pairwise(edges)):
            is_last = place == len(edges) - 2
            inside = (numbers >= low) & ((numbers <= high) if is_last else (numbers < high))
            found[f"{prefix}{low:.6g} to {'' if is_last else '<'}{high:.6g}"] = np.flatnonzero(inside)
        return found

    def fitted(self, targets: np.ndarray, objective: Objective) -> Self:
        std = targets.std(axis=0, dtype=float)
        limits = {"low": targets.min(axis=0).tolist(), "high": targets.max(axis=0).tolist()}
        scale = {"mean": targets.mean(axis=0, dtype=float).tolist(), "std": np.where(std > 0, std, 1).tolist()}
        return self.with_fit({**scale, **limits, "clip": objective.clip})

    def loss(self, targets: np.ndarray, objective: Objective) -> torch.nn.Module:
        from pipeline.tasks.losses import NumberLoss

        fitted = self.fitted(targets, objective).fitted_to
        return NumberLoss(objective.loss or "mse", np.array(fitted["mean"]), np.array(fitted["std"]))

    def predictions(self, logits: torch.Tensor) -> torch.Tensor:
        mean, std, low, high = (logits.new_tensor(self.fitted_to[name]) for name in ("mean", "std", "low", "high"))
        numbers = logits * std + mean
        return numbers.clamp(low, high) if self.fitted_to["clip"] else numbers

    def val_loss(self, targets: np.ndarray, predictions: np.ndarray) -> float:
        """The mean squared error of standardised numbers."""
        return float(np.mean(self.losses_of(targets, predictions)))

    def costs(self, targets: np.ndarray, predictions: np.ndarray) -> np.ndarray:
        return self.losses_of(targets, predictions).mean(axis=1)

    def losses_of(self, targets: np.ndarray, predictions: np.ndarray) -> np.ndarray:
        """The squared errors (M, C) of standardised numbers."""
        return ((predictions - targets) / np.array(self.fitted_to["std"])) ** 2

    def prior(self, targets: np.ndarray) -> np.ndarray:
        return targets.mean(axis=0).astype(np.float32)

    def evidence(self, predictions: np.ndarray) -> np.ndarray:
        return predictions

    def chances(self, evidence: np.ndarray) -> np.ndarray:
        return evidence

    def draw(self, chances: np.ndarray, uniform: np.ndarray, spread: np.ndarray) -> np.ndarray:
        from scipy.special import ndtri

        return chances + spread * ndtri(uniform.clip(1e-9, 1 - 1e-9))

    def best(self, predictions: np.ndarray, rule: Rule) -> list[str]:
        return [self.separator.join(f"{value:.6g}" for value in row) for row in predictions]

    def describe(self, prediction: np.ndarray, rule: Rule) -> str:
        """``"65.3"``."""
        return ", ".join(f"{value:.4g}" for value in prediction)

    def verdict(self, prediction: np.ndarray, label: str, rule: Rule) -> tuple[str, bool]:
        """``"65.3\nis 70"``; a number is never just right or wrong."""
        return f"{self.describe(prediction, rule)}\nis {label}", False

    def default_rule(self, metric: Metric) -> Rule:
        return {}


def number(text: str) -> float | None:
    """The number that a text is, None if it is none, not finite, or too large for float32."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) < 1e30 and "_" not in text else None
