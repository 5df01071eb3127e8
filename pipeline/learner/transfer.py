"""Loads pretrained weights from a hub or a file into a network with a new head, and freezes the backbone if asked.

Loading never runs code from a file: files are safetensors, or are read with ``weights_only=True``.
"""

from __future__ import annotations

import json
import logging
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors
import timm
import torch
import torchvision
from huggingface_hub import hf_hub_url
from huggingface_hub.errors import HfHubHTTPError
from timm.models import load_state_dict
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from pipeline.pixels.preprocessing import Preprocessing
from pipeline.records.paths import WEIGHTS
from pipeline.system.console import say
from pipeline.system.errors import InputError, MachineError, count_of
from pipeline.system.places import shown


def head_of(module: nn.Module) -> list[str]:
    """Names of the classifier layers: those of timm's configuration, else the last linear layer or convolution."""
    config: Any = getattr(module, "pretrained_cfg", {})
    if names := config.get("classifier"):
        return [names] if isinstance(names, str) else list(names)
    return [name for name, part in module.named_modules() if isinstance(part, nn.Linear | nn.Conv2d)][-1:]


def in_head(name: str, head: list[str]) -> bool:
    """True if a parameter or layer of this name is part of the head."""
    return any(name == layer or name.startswith(f"{layer}.") for layer in head)


def set_frozen(module: nn.Module, frozen: bool) -> None:
    """Sets train mode; if ``frozen``, only the head learns, else all weights do.

    A frozen backbone has no gradients and keeps its BatchNorm statistics, so that it stays bit-identical.
    """
    module.train()
    head = head_of(module)
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(not frozen or in_head(name, head))
    for name, part in module.named_modules():
        if frozen and isinstance(part, _NormBase) and not in_head(name, head):
            part.eval()


# --- weights of a file ------------------------------------------------------------------------------------------


def load_weights_file(path: Path, name: str, module: nn.Module) -> Preprocessing | None:
    """Loads a ``.safetensors`` or ``.pth`` file, from Foldwise or another source, into the module, except for its head.

    Returns the preprocessing that the weights were trained with, or None if the file does not contain it. Raises
    FoldwiseError if the file is missing or damaged, or if its weights have another architecture.
    """
    if not path.is_file():
        raise InputError(
            f"there are no weights at {shown(path)}; set pretrained to the path of another file or to false"
        )
    about: dict[str, Any] = {}
    with path.open("rb") as opened:
        start = opened.read(2)
    with reading_weights(path):
        if path.suffix == ".safetensors":
            with safetensors.safe_open(path, "pt") as file:
                about = json.loads((file.metadata() or {}).get("foldwise", "{}"))
        elif start not in (b"PK", b"\x80\x02"):  # torch's zip format, and its older pickle format
            raise ValueError("it is neither a .safetensors nor a .pth file")
        state = load_state_dict(str(path))
        if not state or not all(isinstance(value, torch.Tensor) for value in state.values()):
            raise ValueError("it holds no weights")
        not_finite = [key for key, value in state.items() if not value.isfinite().all()]
        if not_finite:
            raise ValueError(f"'{not_finite[0]}' holds NaN or infinite values")
        preprocessing = Preprocessing(**about["preprocessing"]) if "preprocessing" in about else None
        if preprocessing and not all(
            isinstance(value, float) and value > 0 for value in (*preprocessing.std, preprocessing.crop_share)
        ):
            raise ValueError(f"its preprocessing is not valid: {about['preprocessing']}")
    load_backbone(state, module, name, f"the weights {shown(path)}")
    return preprocessing


@contextmanager
def reading_weights(path: Path) -> Iterator[None]:
    """Turns the exceptions that a damaged weights file causes into a FoldwiseError."""
    try:
        yield
    except (safetensors.SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, KeyError, ValueError,
            TypeError, AttributeError, IndexError, OSError) as error:  # fmt: skip
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        if "weights_only" in reason:  # torch's message advises to run the code in the file
            reason = "it holds Python objects other than weights, which are not loaded"
        raise InputError(
            f"{shown(path)} is damaged or holds no weights ({reason}); download it again, or use another file"
        ) from error


def load_backbone(state: dict[str, torch.Tensor], module: nn.Module, name: str, what: str) -> None:
    """Loads a state dict into the module, except for the head, which stays new.

    If the first convolution is for another number of channels, such as one for grey images, the sum of its weights over
    the channels is divided evenly among the module's channels. Raises FoldwiseError if anything else does not fit.
    """
    head = head_of(module)
    own = {key: value for key, value in module.state_dict().items() if not in_head(key, head)}
    state = {key: value for key, value in state.items() if not in_head(key, head)}
    first = next((key for key, value in own.items() if value.ndim == 4), "")
    if first in state and state[first].shape != own[first].shape and state[first].shape[2:] == own[first].shape[2:]:
        channels = own[first].shape[1]
        state[first] = state[first].sum(1, keepdim=True).expand(-1, channels, -1, -1) / channels
    faults = {
        "missing": [key for key in own if key not in state and not key.endswith("num_batches_tracked")],
        "unexpected": [key for key in state if key not in own],
        "of another shape": [key for key in state if key in own and state[key].shape != own[key].shape],
    }
    if any(faults.values()):
        found = [
            f"{count_of(len(keys), 'tensor')} {word}, such as '{keys[0]}'" for word, keys in faults.items() if keys
        ]
        raise InputError(f"{what} are of another architecture than model '{name}': {'; '.join(found)}")
    module.load_state_dict(state, strict=False)


# --- weights of a hub -------------------------------------------------------------------------------------------


def fetch_timm(name: str, num_classes: int, model_args: dict[str, Any]) -> nn.Module:
    """timm's network of this name with its pretrained weights and a new head.

    The weights come from their file in data/weights/ if it is there, else from the hub or its cache in the home folder.
    """
    config = timm.get_pretrained_cfg(name)
    file = config.hf_hub_filename or "model.safetensors"
    place = WEIGHTS / (".".join(filter(None, (config.architecture, config.tag))) + Path(file).suffix)
    arguments = {"pretrained": True, "num_classes": num_classes, **model_args}
    if place.exists():
        with reading_weights(place):
            return timm.create_model(
                name, pretrained_cfg_overlay={"file": str(place), "custom_load": False}, **arguments
            )
    url = hf_hub_url(config.hf_hub_id, file) if config.hf_hub_id else config.url
    with downloading(name, url, place):
        return timm.create_model(name, **arguments)


def fetch_torchvision(name: str, module: nn.Module) -> Preprocessing:
    """Loads torchvision's default (newest) weights of this name into the module, except for the head.

    They come from data/weights/, the hub or torch's cache, as in ``fetch_timm``. Returns the preprocessing they expect.
    """
    weights = torchvision.models.get_model_weights(name.removeprefix("torchvision/")).DEFAULT
    place = WEIGHTS / Path(weights.url).name
    if place.exists():
        load_weights_file(place, name, module)
    else:
        with downloading(name, weights.url, place):
            state = weights.get_state_dict(check_hash=True, progress=False)
        load_backbone(dict(state), module, name, "the weights of the hub")
    transforms = weights.transforms()
    share = transforms.crop_size[0] / transforms.resize_size[0]
    return Preprocessing(tuple(transforms.mean), tuple(transforms.std), transforms.interpolation.value, share)


@contextmanager
def downloading(name: str, url: str | None, place: Path) -> Iterator[None]:
    """Turns a failed download into a FoldwiseError that says which file to download and where to put it."""
    if not url:
        raise MachineError(f"there are no pretrained weights of '{name}'; set pretrained to false or to a file's path")
    say("train", f"downloading the pretrained weights of '{name}' from {url}, unless they are in the cache")
    hub = logging.getLogger("huggingface_hub")
    level = hub.level
    hub.setLevel(logging.ERROR)  # else it prints a warning for each attempt
    try:
        yield
    except (OSError, RuntimeError, HfHubHTTPError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise MachineError(
            f"the pretrained weights of '{name}' cannot be downloaded ({reason}); download {url} on another computer "
            f'and save it here as {shown(place)}, or train from scratch with SET="pretrained=false"'
        ) from error
    finally:
        hub.setLevel(level)
