"""Defines what a recipe says about the loss, and the weights of classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from pipeline.system.errors import InputError, suggestion

LossName = Literal["cross_entropy", "bce", "focal", "mse", "l1", "huber"]
#: Base of the effective number of images (Cui et al., 2019).
EFFECTIVE = 0.999


@dataclass(frozen=True)
class Objective:
    """What a recipe says about the loss.

    loss: None for the first loss of the task
    class_weights: "none", "balanced", "effective", or a weight for each class by its name
    focal_gamma: exponent of the focal loss
    label_smoothing: share of each target that is spread over all classes
    soft_grades: standard deviation of the targets around the true grade, in grades
    clip: True to limit predicted numbers to the range of the train labels
    """

    loss: LossName | None = None
    class_weights: str | dict[str, float] = "none"
    focal_gamma: float = 2.0
    label_smoothing: float = 0.0
    soft_grades: float = 0.0
    clip: bool = True


def class_weights(
    objective: Objective, names: list[str], counts: np.ndarray, balanced: np.ndarray
) -> np.ndarray | None:
    """The weight (C,) of each class or tag; None for no weights.

    "effective": the inverse of the effective number of images, (1 - b**count) / (1 - b), scaled to a mean of 1 (Cui et
    al., 2019). A given weight is that of the class; classes that are not named have weight 1.

    counts: (C,), the number of train images of each class
    balanced: (C,), the weights for "balanced"

    Raises FoldwiseError if a weight is given for an unknown class.
    """
    chosen = objective.class_weights
    if chosen == "none":
        return None
    if chosen == "balanced":
        return balanced
    if chosen == "effective":
        weights = (1 - EFFECTIVE) / (1 - EFFECTIVE ** np.maximum(counts, 1))
        return weights / weights.mean()
    assert isinstance(chosen, dict)
    for name in chosen:
        if name not in names:
            raise InputError(f"class_weights in the recipe: '{name}' is not a class{suggestion(name, names)}")
    return np.array([chosen.get(name, 1.0) for name in names])
