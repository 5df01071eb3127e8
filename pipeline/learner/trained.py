"""The models of a run's trained folds, ready to predict."""

from __future__ import annotations

from typing import Any

from torch import nn

from pipeline.learner.checkpoint import load_weights
from pipeline.learner.models import build_model
from pipeline.pixels.preprocessing import Preprocessing
from pipeline.records.errors import FoldwiseError
from pipeline.records.files import read_json
from pipeline.records.paths import Paths, shown
from pipeline.records.recipe import Recipe
from pipeline.records.runs import differences


def load_folds(
    paths: Paths, run: str, folds: list[int], recipe: Recipe, wanted: dict[str, Any]
) -> tuple[dict[int, nn.Module], Preprocessing]:
    """Each fold's module, in eval mode on the CPU, and the preprocessing that all of them share.

    Raises FoldwiseError for weights that are damaged, or that were not made of what is ``wanted``.
    """
    modules = {}
    for fold in folds:
        folder = paths.fold(run, fold)
        trained = read_json(folder / "trained.json", "weights_sha256")
        weights, about = load_weights(folder / "weights.safetensors", trained["weights_sha256"])
        differing = differences(about["made_of"], wanted)
        if differing or about["fold"] != fold:
            raise FoldwiseError(
                f"{shown(folder)} was made of something else ({differing or 'another fold'}); undo the change, or "
                "delete that folder and train the fold again"
            )
        modules[fold] = build_model(recipe, len(wanted["class_names"])).module.eval()
        modules[fold].load_state_dict(weights)
    return modules, Preprocessing(**about["preprocessing"])
