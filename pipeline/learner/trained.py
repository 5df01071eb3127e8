"""Loads the models of a run's trained folds, ready for prediction."""

from __future__ import annotations

from typing import Any

from pipeline.learner.checkpoint import load_weights
from pipeline.learner.inference import Model
from pipeline.learner.models import build_model
from pipeline.pixels.preprocessing import Preprocessing
from pipeline.records.job import Job
from pipeline.records.runs import differences
from pipeline.system.errors import StaleError
from pipeline.system.files import read_json
from pipeline.system.places import shown
from pipeline.tasks.task import Task


def load_folds(
    job: Job, folds: list[int], wanted: dict[str, Any], task: Task
) -> tuple[dict[int, Model], Preprocessing]:
    """Returns the model of each fold, in eval mode on the CPU, and the preprocessing that all folds share.

    wanted: the identity (records/runs.py) that the weights must have

    Raises FoldwiseError if weights are damaged or have another identity.
    """
    models = {}
    for fold in folds:
        folder = job.fold_folder(fold)
        trained = read_json(folder / "trained.json", "weights_sha256")
        weights, about = load_weights(folder / "weights.safetensors", trained["weights_sha256"])
        differing = differences(about["made_of"], wanted)
        if differing or about["fold"] != fold:
            raise StaleError(
                f"{shown(folder)} was made from something else ({differing or 'another fold'}); undo the change, or "
                "delete that folder and train the fold again"
            )
        module = build_model(job.recipe, len(task.target_names)).module.eval()
        module.load_state_dict(weights)
        models[fold] = Model(module, task.with_fit(about.get("task", {})))
    return models, Preprocessing(**about["preprocessing"])
