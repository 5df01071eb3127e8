"""Defines the losses, for targets that may be soft (Mixup, CutMix, smoothing). Imports torch, so only the learner does.

Legend: B rows of a batch, C targets; logits (B, C) float; targets (B, C) float.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from pipeline.tasks.objective import Objective

#: Lower limit of the base of a power: the gradient of x**gamma at 0 is infinite for gamma < 1.
SMALLEST = 1e-6


def as_tensor(values: np.ndarray) -> torch.Tensor:
    """The values as float32."""
    return torch.tensor(values, dtype=torch.float32)


def class_loss(objective: Objective, weights: np.ndarray | None) -> nn.Module:
    """The loss of classes of which each image has one; weights: (C,) or None."""
    weight = None if weights is None else as_tensor(weights)
    if objective.loss == "focal":
        return FocalLoss(objective.focal_gamma, weight, objective.label_smoothing)
    if objective.loss == "bce":
        return BinaryLoss(weight, objective.label_smoothing)
    return nn.CrossEntropyLoss(weight=weight, label_smoothing=objective.label_smoothing)


class FocalLoss(nn.Module):
    """Cross-entropy with each term scaled by (1 - probability)**gamma, so that easy images count less (Lin, 2017)."""

    weight: torch.Tensor | None

    def __init__(self, gamma: float, weight: torch.Tensor | None, label_smoothing: float) -> None:
        super().__init__()
        self.gamma, self.label_smoothing = gamma, label_smoothing
        self.register_buffer("weight", weight)

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        log_probs = logits.log_softmax(dim=1)
        smooth = targets * (1 - self.label_smoothing) + self.label_smoothing / targets.shape[1]
        terms = smooth * (1 - log_probs.exp()).clamp_min(SMALLEST) ** self.gamma * log_probs
        return -(terms if self.weight is None else terms * self.weight).sum(dim=1).mean()


class BinaryLoss(nn.Module):
    """Mean binary cross-entropy of all cells; focal (Lin, 2017) if gamma is not 0. The weights are for the ones."""

    weight: torch.Tensor | None

    def __init__(self, weight: torch.Tensor | None, label_smoothing: float, gamma: float = 0) -> None:
        super().__init__()
        self.gamma, self.label_smoothing = gamma, label_smoothing
        self.register_buffer("weight", weight)

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        smooth = targets * (1 - self.label_smoothing) + self.label_smoothing / 2
        if not self.gamma:
            return F.binary_cross_entropy_with_logits(logits, smooth, pos_weight=self.weight)
        ones = smooth * (1 - logits.sigmoid()).clamp_min(SMALLEST) ** self.gamma * F.logsigmoid(logits)
        zeros = (1 - smooth) * logits.sigmoid().clamp_min(SMALLEST) ** self.gamma * F.logsigmoid(-logits)
        return -((ones if self.weight is None else ones * self.weight) + zeros).mean()


#: Losses of numbers, by the names of recipes; "huber" is quadratic up to a difference of 1 (a standard deviation, or a
#: grade).
NUMBER_LOSSES: dict[str, Callable[..., torch.Tensor]] = {"mse": F.mse_loss, "l1": F.l1_loss, "huber": F.huber_loss}


class NumberLoss(nn.Module):
    """The loss of standardised numbers: the outputs of the network, and the targets minus ``mean``, over ``std``."""

    def __init__(self, loss: str, mean: np.ndarray, std: np.ndarray) -> None:
        super().__init__()
        self.loss = NUMBER_LOSSES[loss]
        self.mean, self.std = nn.Buffer(as_tensor(mean)), nn.Buffer(as_tensor(std))

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return self.loss(logits, (targets - self.mean) / self.std)


class MeanGradeLoss(nn.Module):
    """The loss of the mean grade under the predicted probabilities, as in DEX (Rothe et al., 2015)."""

    def __init__(self, loss: str, grades: np.ndarray) -> None:
        super().__init__()
        self.loss, self.grades = NUMBER_LOSSES[loss], nn.Buffer(as_tensor(grades))

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return self.loss(logits.softmax(dim=1) @ self.grades, targets @ self.grades)


class SoftTargets(nn.Module):
    """A loss of targets that a matrix (C, C) spreads over neighbouring grades (Diaz & Marathe, 2019)."""

    def __init__(self, loss: nn.Module, spread: np.ndarray) -> None:
        super().__init__()
        self.loss, self.spread = loss, nn.Buffer(as_tensor(spread))

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return self.loss(logits, targets @ self.spread)
