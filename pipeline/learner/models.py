"""Networks by name: any of timm's, torchvision/<name>, or a function registered here.

Legend: images (B, 3, S, S) float, normalised; logits (B, C).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import timm
import torchvision
from torch import nn

from pipeline.records.errors import FoldwiseError, nearest

#: ImageNet's channel means and deviations, for pixels in 0..1.
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

REGISTERED: dict[str, Callable[..., nn.Module]] = {}


def register_model(function: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """Makes a builder (num_classes, **model_args) -> module known by its name."""
    REGISTERED[function.__name__] = function
    return function


@register_model
def small_cnn(num_classes: int, width: int = 32, dropout: float = 0.2) -> nn.Module:
    """Three pairs of 3x3 convolutions with BatchNorm, halving the image twice: for images of about 8 to 32 px."""

    def pair(before: int, after: int) -> list[nn.Module]:
        layers: list[nn.Module] = []
        for channels in (before, after):
            layers += [
                nn.Conv2d(channels, after, 3, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(inplace=True),
            ]
        return layers

    return nn.Sequential(
        *pair(3, width), nn.MaxPool2d(2),
        *pair(width, 2 * width), nn.MaxPool2d(2),
        *pair(2 * width, 4 * width), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Dropout(dropout), nn.Linear(4 * width, num_classes),
    )  # fmt: skip


@dataclass(frozen=True)
class Network:
    """A module and the normalisation of its input: mean and std of RGB pixels in 0..1."""

    module: nn.Module
    mean: tuple[float, ...]
    std: tuple[float, ...]


def build_model(name: str, num_classes: int, pretrained: bool = False, **model_args: Any) -> Network:
    """Builds a network with a head of ``num_classes``.

    Raises FoldwiseError for an unknown name (with the nearest), an argument that its builder does not take, and
    pretrained weights that cannot be fetched.
    """
    vision_name = name.removeprefix("torchvision/")
    if name in REGISTERED:
        known = list(REGISTERED)
    elif name.startswith("torchvision/"):
        known = torchvision.models.list_models(module=torchvision.models)
        if vision_name not in known:
            raise FoldwiseError(f"unknown model '{name}'{nearest(vision_name, known)}")
    elif not timm.is_model(name.split(".")[0]):
        raise FoldwiseError(f"unknown model '{name}'{nearest(name, [*timm.list_models(), *REGISTERED])}")
    if pretrained and name in REGISTERED:
        raise FoldwiseError(f"there are no pretrained weights of '{name}'; set pretrained = false")
    try:
        if name in REGISTERED:
            return Network(REGISTERED[name](num_classes, **model_args), *IMAGENET)
        if name.startswith("torchvision/"):
            return Network(torchvision_model(vision_name, num_classes, pretrained, model_args), *IMAGENET)
        module = timm.create_model(name, pretrained=pretrained, num_classes=num_classes, **model_args)
        return Network(module, tuple(module.pretrained_cfg["mean"]), tuple(module.pretrained_cfg["std"]))
    except (TypeError, ValueError, KeyError, AssertionError) as error:
        raise FoldwiseError(f"model '{name}' does not take model_args {model_args}: {error}") from error
    except (OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        if not pretrained:
            raise FoldwiseError(f"model '{name}' cannot be built with model_args {model_args}: {reason}") from error
        raise FoldwiseError(
            f"the pretrained weights of '{name}' cannot be fetched ({reason}); connect once to the "
            'network, or train from scratch with SET="pretrained=false"'
        ) from error


def torchvision_model(name: str, num_classes: int, pretrained: bool, model_args: dict[str, Any]) -> nn.Module:
    """A torchvision classifier; with pretrained weights its last linear layer is replaced by a new one."""
    if not pretrained:
        return torchvision.models.get_model(name, weights=None, num_classes=num_classes, **model_args)
    module = torchvision.models.get_model(name, weights="DEFAULT", **model_args)
    path, head = [(path, part) for path, part in module.named_modules() if isinstance(part, nn.Linear)][-1]
    parent, _, attribute = path.rpartition(".")
    setattr(module.get_submodule(parent), attribute, nn.Linear(head.in_features, num_classes))
    return module
