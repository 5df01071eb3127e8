"""Small recipes and networks, and a counter of what torch is asked to do."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline.learner.models import Network, build_model
from pipeline.records.recipe import Recipe


def recipe(**changes: object) -> Recipe:
    """A recipe with the essentials."""
    return Recipe.model_validate({"model": "small_cnn", "image_size": 16, "epochs": 10, "lr": 0.1, **changes})


def network(name: str, classes: int, pretrained: bool | str = False, **model_args: object) -> Network:
    """A network by name, for images of 32 px."""
    return build_model(recipe(model=name, image_size=32, model_args=model_args), classes, pretrained)


class CountedOperations(TorchDispatchMode):
    """Counts torch's operations, which are started one by one on a GPU; views start nothing there."""

    number = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        is_view = isinstance(found, torch.Tensor) and found._is_view()
        self.number += not is_view and not func.is_view
        return found
