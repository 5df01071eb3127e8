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
from pipeline.learner.transfer import load_backbone, renew_head
from pipeline.learner.weights import TORCHVISION, Weights, find_weights, read_weights, reading_weights
from pipeline.pixels.preprocessing import IMAGENET, Preprocessing
from pipeline.records.recipe import Recipe
from pipeline.system.errors import InputError, is_out_of_memory, suggestion
from pipeline.system.files import fingerprint
from pipeline.system.places import shown


@dataclass(frozen=True)
class Network:
    """A network that was built for a recipe.

    module: the network
    preprocessing: what its input must look like
    weights: its pretrained weights; None for random weights
    """

    module: nn.Module
    preprocessing: Preprocessing
    weights: Weights | None = None

    @property
    def described(self) -> str:
        """Which pretrained weights it has, and what they expect, in words."""
        if self.weights is None:
            return "random weights"
        mean, std = (" ".join(f"{value:.3g}" for value in dict.fromkeys(values)) for values in self.preprocessing[:2])
        licence = f", licence: {self.weights.licence}" if self.weights.licence else ""
        return (
            f"pretrained weights from {self.weights.origin}{licence}, sha256 {self.weights.sha256[:12]}; their input: "
            f"mean {mean}, std {std}, {self.preprocessing.interpolation}, crop {self.preprocessing.crop_share:.3g}"
        )


def build_model(recipe: Recipe, num_classes: int, pretrained: bool | str = False) -> Network:
    """Builds the recipe's network with a head for ``num_classes`` and the preprocessing that its weights expect.

    pretrained: False for random weights, True for the weights of the hub, or the path of a weights file

    Raises FoldwiseError for an unknown name (with the nearest known name), for an argument that the builder does not
    take, and for weights that cannot be downloaded, are damaged, or have another architecture.
    """
    network = build_network(recipe, num_classes, pretrained)
    if recipe.grad_checkpointing:
        switch: Any = getattr(network.module, "set_grad_checkpointing", None)
        try:
            assert switch is not None
            switch(True)
        except AssertionError as error:  # some of timm's models raise it too
            raise InputError(f"model '{recipe.model}' does not support grad_checkpointing; leave it out") from error
    return network


def build_network(recipe: Recipe, num_classes: int, pretrained: bool | str) -> Network:
    """As ``build_model``, but always without gradient checkpointing."""
    name = recipe.model
    module, preprocessing = build_from_scratch(recipe, num_classes)
    if not pretrained:
        return Network(module, overridden(preprocessing, recipe))
    if pretrained is True and name in REGISTERED:
        raise InputError(f"there are no pretrained weights of '{name}'; set pretrained to false or to a file's path")
    found = own_file(Path(pretrained)) if isinstance(pretrained, str) else find_weights(name)
    expected = None
    if pretrained is True and not found.in_order and not name.startswith(TORCHVISION):
        module = load_by_timm(recipe, num_classes, found)
    else:
        state, expected = read_weights(found.file)
        if found.in_order:
            state = dict(zip(module.state_dict(), state.values(), strict=False))
        load_backbone(state, module, name, f"the weights {shown(found.file)}")
    renew_head(module)
    if expected is None:
        expected = timm_preprocessing(module) if hasattr(module, "pretrained_cfg") else preprocessing
        if pretrained is True and name.startswith(TORCHVISION) and not found.in_order:
            expected = torchvision_preprocessing(name)
    return Network(module, overridden(expected, recipe), found)


def own_file(path: Path) -> Weights:
    """The weights in a file that the recipe names."""
    return Weights(path, shown(path), fingerprint(path) if path.is_file() else "")


def load_by_timm(recipe: Recipe, num_classes: int, found: Weights) -> nn.Module:
    """timm's network with the weights of a file, which timm adapts to the network's classes, channels and size."""
    overlay = {"file": str(found.file), "custom_load": found.file.suffix == ".npz"}
    arguments = timm_arguments(recipe)
    with reading_weights(found.file):
        return timm.create_model(
            recipe.model, pretrained=True, num_classes=num_classes, pretrained_cfg_overlay=overlay, **arguments
        )


def torchvision_preprocessing(name: str) -> Preprocessing:
    """The preprocessing of torchvision's default weights of a model."""
    transforms = torchvision.models.get_model_weights(name.removeprefix(TORCHVISION)).DEFAULT.transforms()
    share = transforms.crop_size[0] / transforms.resize_size[0]
    return Preprocessing(tuple(transforms.mean), tuple(transforms.std), transforms.interpolation.value, share)


def overridden(preprocessing: Preprocessing, recipe: Recipe) -> Preprocessing:
    """The preprocessing with what the recipe sets itself: mean, std, interpolation, crop_share."""
    chosen = {name: getattr(recipe, name) for name in Preprocessing._fields}
    return preprocessing._replace(**{name: value for name, value in chosen.items() if value is not None})


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
        if is_out_of_memory(error):
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
