"""Saved state: the weights of a finished fold (safetensors), and all that an unfinished one needs to go on.

Nothing here unpickles code: safetensors holds tensors, and trainer state is read with ``weights_only=True``.
"""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import nn

from pipeline.records.errors import FoldwiseError
from pipeline.records.files import atomic_path
from pipeline.records.paths import shown


def save_weights(path: Path, module: nn.Module, about: dict[str, Any]) -> None:
    """Writes a module's weights and buffers with what a reader needs to build the module again."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    with atomic_path(path) as temporary:
        # Written by Python, so that a full disk is an OSError and the file has the user's usual permissions.
        temporary.write_bytes(safetensors.torch.save(weights, metadata={"foldwise": json.dumps(about)}))


def load_about(path: Path) -> dict[str, Any]:
    """What ``save_weights`` wrote about the module; raises FoldwiseError when the file is damaged."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            return json.loads(file.metadata()["foldwise"])
    except (safetensors.SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise FoldwiseError(
            f"{shown(path)} is damaged ({error}); delete its folder and train that fold again"
        ) from error


def load_weights(path: Path, module: nn.Module) -> None:
    """Reads weights into a module of the same shape."""
    try:
        safetensors.torch.load_model(module, path)
    except (safetensors.SafetensorError, OSError, RuntimeError) as error:
        raise FoldwiseError(
            f"{shown(path)} does not fit the model ({error}); delete its folder and train that fold again"
        ) from error


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Writes trainer state (tensors and plain types), whole or not at all."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):  # a full disk, which torch's own clean-up hides
                raise error.__context__ from None
            raise


def load_state(path: Path) -> dict[str, Any] | None:
    """Reads trainer state to the CPU; None where there is none. Raises FoldwiseError when it is damaged."""
    if not path.exists():
        return None
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FoldwiseError(
            f"{shown(path)} is damaged ({reason}); delete it to train this fold from its start"
        ) from error
