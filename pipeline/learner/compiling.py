"""Compiles the training step of a network for a GPU (torch.compile, Ansel et al., ASPLOS 2024).

Each size of images and of batches gets a graph of its own, without symbolic sizes: a resumed fold, which does not see
the sizes before its step, then runs the same graphs. Validation and prediction run the module itself, not compiled.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from typing import Any

import torch
from torch import nn

from pipeline.records.recipe import Recipe

#: The compiler; the tests set one that needs neither Triton nor a C compiler.
BACKEND = "inductor"


def why_not_compiled() -> str:
    """The reason why no module can be compiled on this machine; "" if there is none."""
    if BACKEND != "inductor":
        return ""
    compilers = os.environ.get("CC", "").split()[:1] or ["gcc", "clang", "cc"]
    if not any(map(shutil.which, compilers)):
        return f"there is no C compiler ({', '.join(compilers)}); install gcc"
    return "" if importlib.util.find_spec("triton") else "the package triton is not installed"


def is_compiler_error(error: RuntimeError) -> bool:
    """True for an error of torch.compile itself, for example on a GPU that Triton does not know."""
    if "torch._dynamo.exc" not in sys.modules:  # nothing was compiled; to import it takes seconds
        return False
    from torch._dynamo.exc import TorchDynamoException

    return isinstance(error, TorchDynamoException)


def reason_of(error: RuntimeError) -> str:
    """The reason that a compiler gives, in one line."""
    cause = getattr(error, "inner_exception", error)
    return next(iter(str(cause).strip().splitlines()), type(cause).__name__)


def compiled(module: nn.Module, recipe: Recipe) -> nn.Module:
    """The module with a compiled forward pass; ``module`` itself stays as it is.

    A batch in unequal parts has two sizes for each size of images, and frozen layers need graphs of their own. torch
    keeps 8 graphs unless told otherwise, and all modules of a class share them, such as those of trial steps.
    """
    from torch._dynamo import config

    sizes = len({recipe.size_at(epoch) for epoch in range(recipe.epochs)})
    name = "recompile_limit" if hasattr(config, "recompile_limit") else "cache_size_limit"  # the name before torch 2.7
    setattr(config, name, 16 + 4 * sizes)
    forward: Any = torch.compile(module, dynamic=False, backend=BACKEND)
    return forward
