"""Small recipes and networks."""

from __future__ import annotations

from pipeline.learner.models import Network, build_model
from pipeline.records.recipe import Recipe


def recipe(**changes: object) -> Recipe:
    """A recipe with the essentials."""
    return Recipe.model_validate({"model": "small_cnn", "image_size": 16, "epochs": 10, "lr": 0.1, **changes})


def network(name: str, classes: int, pretrained: bool | str = False, **model_args: object) -> Network:
    """A network by name, for images of 32 px."""
    return build_model(recipe(model=name, image_size=32, model_args=model_args), classes, pretrained)
