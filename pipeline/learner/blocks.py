"""Numbers the blocks of a network from its input to its head, for learning rates by layer and for frozen blocks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from timm.models import group_parameters
from torch import nn

from pipeline.learner.transfer import head_of, in_head
from pipeline.records.recipe import Recipe
from pipeline.system.errors import InputError


def blocks_of(module: nn.Module) -> dict[str, int]:
    """The number of the block, from 0, of each parameter by its name; the head is the last block.

    For timm's networks these are timm's layer groups. For others, the blocks are the parts that a stage repeats, such
    as residual blocks, and single layers outside of stages, each with the norms after it.
    """
    matcher: Any = getattr(module, "group_matcher", None)
    if matcher is not None:
        return group_parameters(module, matcher(coarse=False), reverse=True)
    head = head_of(module)
    starts = [name for name, part in parts_in_order(module) if not in_head(name, head) and begins_block(part)]
    numbers, number = {}, 0
    for name, _ in module.named_parameters():
        number = next((place for place, start in enumerate(starts) if name.startswith(f"{start}.")), number)
        numbers[name] = len(starts) if in_head(name, head) else number
    used = sorted(set(numbers.values()))  # some parts share the parameters of others, or have only norms
    return {name: used.index(number) for name, number in numbers.items()}


def parts_in_order(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Yields the parts (name, module) of a network in order: it opens everything that repeats a part, down to that."""
    for name, child in module.named_children():
        if prefix and is_repeated(child, module):
            yield f"{prefix}{name}", child
        elif any(is_repeated(part, parent) for parent in child.modules() for part in parent.children()):
            yield from parts_in_order(child, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", child


def is_repeated(part: nn.Module, parent: nn.Module) -> bool:
    """True if ``parent`` is a stage of several parts of this kind, each of which has parts itself."""
    kinds = Counter(type(child) for child in parent.children() if any(child.children()))
    return isinstance(parent, nn.Sequential | nn.ModuleList | nn.ModuleDict) and kinds[type(part)] > 1


def begins_block(part: nn.Module) -> bool:
    """True unless a part has no weights, or is a norm, which belongs to the layer before it."""
    has_matrix = any(parameter.ndim > 1 for parameter in part.parameters())
    return has_matrix or (any(part.children()) and any(True for _ in part.parameters()))


def frozen_in(module: nn.Module, recipe: Recipe, epoch: int) -> Callable[[str], bool]:
    """A function that is true for the names of the parameters that do not learn in an epoch.

    Raises FoldwiseError if freeze_blocks leaves no block to learn.
    """
    head = head_of(module)
    if recipe.is_frozen(epoch):
        return lambda name: not in_head(name, head)
    if not recipe.freeze_blocks:
        return lambda _: False
    numbers = blocks_of(module)
    if recipe.freeze_blocks > max(numbers.values()):
        raise InputError(
            f"freeze_blocks = {recipe.freeze_blocks} leaves nothing to learn: '{recipe.model}' has "
            f"{max(numbers.values()) + 1} blocks with its head; lower it, or set freeze = true to train only the head"
        )
    return lambda name: numbers.get(name, recipe.freeze_blocks) < recipe.freeze_blocks
