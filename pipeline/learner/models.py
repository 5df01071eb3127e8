"""Builds networks by name: any of timm, torchvision/<name>, or one registered in networks.py or resnet.py.

Legend: images (B, 3, S, S) float, normalised; logits (B, C).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torchvision
from timm.data import resolve_model_data_config
from torch import nn

import pipeline.learner.resnet  # noqa: F401 (registers its networks)
from pipeline.learner.networks import REGISTERED
from pipeline.learner.transfer import fetch_timm, fetch_torchvision, load_weights_file
from pipeline.pixels.preprocessing import IMAGENET, Preprocessing
from pipeline.records.recipe import Recipe
from pipeline.system.errors import InputError, suggestion
from pipeline.system.files import fingerprint

TORCHVISION = "torchvision/"


@dataclass(frozen=True)
class Network:
    """A network that was built for a recipe.

    module: the network
    preprocessing: what its input must look like
    pretrained_sha256: sha256 of the file with its pretrained weights; None if they are not from a file
    """

    module: nn.Module
    preprocessing: Preprocessing
    pretrained_sha256: str | None = None


def build_model(recipe: Recipe, num_classes: int, pretrained: bool | str = False) -> Network:
    """Builds the recipe's network with a head for ``num_classes`` and the preprocessing that its weights expect.

    pretrained: False for random weights, True for the weights of the hub, or the path of a weights file

    Raises FoldwiseError for an unknown name (with the nearest known name), for an argument that the builder does not
    take, and for weights that cannot be downloaded, are damaged, or have another architecture.
    """
    name = recipe.model
    module, preprocessing = build_from_scratch(recipe, num_classes)
    if isinstance(pretrained, str):
        expected = load_weights_file(Path(pretrained), name, module)
        if expected is None:
            expected = timm_preprocessing(module) if hasattr(module, "pretrained_cfg") else preprocessing
        return Network(module, expected, fingerprint(Path(pretrained)))
    if not pretrained:
        return Network(module, preprocessing)
    if name in REGISTERED:
        raise InputError(f"there are no pretrained weights of '{name}'; set pretrained to false or to a file's path")
    if name.startswith(TORCHVISION):
        return Network(module, fetch_torchvision(name, module))
    module = fetch_timm(name, num_classes, timm_arguments(recipe))
    return Network(module, timm_preprocessing(module))


def build_from_scratch(recipe: Recipe, num_classes: int) -> tuple[nn.Module, Preprocessing]:
    """A module with random weights, and the default preprocessing of its kind of network."""
    name, model_args = recipe.model, recipe.model_args
    vision_name = name.removeprefix(TORCHVISION)
    if name.startswith(TORCHVISION):
        known = torchvision.models.list_models(module=torchvision.models)
        if vision_name not in known:
            raise InputError(f"unknown model '{name}'{suggestion(vision_name, known)}")
    elif name not in REGISTERED and not timm.is_model(name.split(".")[0]):
        raise InputError(f"unknown model '{name}'{suggestion(name, [*timm.list_models(), *REGISTERED])}")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Initializing zero-element tensors")
            if name in REGISTERED:
                module = REGISTERED[name].build(num_classes, **model_args)
                preprocessing = REGISTERED[name].preprocessing
            elif name.startswith(TORCHVISION):
                module = torchvision.models.get_model(vision_name, weights=None, num_classes=num_classes, **model_args)
                preprocessing = IMAGENET
            else:
                module = timm.create_model(name, num_classes=num_classes, **timm_arguments(recipe))
                expected = timm_preprocessing(module)
                preprocessing = Preprocessing(expected.mean, expected.std)
    except (TypeError, ValueError, KeyError, AssertionError, ZeroDivisionError) as error:
        raise InputError(f"model '{name}' does not take model_args {model_args}: {error}") from error
    except (OSError, RuntimeError, MemoryError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if isinstance(error, MemoryError) or "allocate memory" in reason or "not enough memory" in reason:
            reason = "it needs more memory than this machine has; use smaller values"
        raise InputError(f"model '{name}' cannot be built with model_args {model_args}: {reason}") from error
    empty = [name for name, parameter in module.named_parameters() if not parameter.numel()]
    if empty:
        raise InputError(f"model '{name}' has no weights in '{empty[0]}' with model_args {model_args}; correct them")
    return module, preprocessing


def timm_preprocessing(module: nn.Module) -> Preprocessing:
    """The preprocessing that timm's configuration gives for the weights of a module."""
    config = resolve_model_data_config(module)
    return Preprocessing(tuple(config["mean"]), tuple(config["std"]), config["interpolation"], config["crop_pct"])


def timm_arguments(recipe: Recipe) -> dict[str, Any]:
    """The recipe's model_args, with ``img_size`` for a timm model of fixed input size, such as a vision transformer.

    Raises FoldwiseError if the recipe would train such a model on smaller images.
    """
    config = timm.get_pretrained_cfg(recipe.model)
    if config is None or not config.fixed_input_size:
        return recipe.model_args
    if recipe.start_scale < 1 or recipe.train_scale < 1:
        raise InputError(f"model '{recipe.model}' takes only one image size; leave out start_scale and train_scale")
    return {"img_size": recipe.image_size, **recipe.model_args}
