"""Blocks are numbered from the input to the head, and frozen ones do not change."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pipeline.learner.blocks import blocks_of, frozen_in
from pipeline.learner.models import build_model
from pipeline.learner.optimizer import build_optimizer
from pipeline.learner.transfer import head_of, set_frozen
from pipeline.records.recipe import Recipe
from pipeline.system.errors import FoldwiseError


def recipe(model: str, **changes: object) -> Recipe:
    return Recipe.model_validate({"model": model, "image_size": 32, "epochs": 4, "lr": 0.1, **changes})


@pytest.mark.parametrize(
    ("model", "number"),
    [
        ("foldwise/resnet18", 10),
        ("torchvision/resnet18", 10),  # the first layer, eight residual blocks, the head
        ("torchvision/mobilenet_v2", 20),  # 17 inverted residuals, two layers around them, the head
        ("torchvision/swin_t", 9),
        ("torchvision/convnext_tiny", 10),
        ("small_cnn", 7),
        ("lenet", 5),
        ("resnet10t", 6),
        ("tf_efficientnet_lite0", 18),
    ],
)
def test_blocks_of_each_kind_of_network(model: str, number: int) -> None:
    module = build_model(recipe(model), 3).module
    blocks = blocks_of(module)
    assert [*blocks] == [name for name, _ in module.named_parameters()]
    assert sorted(set(blocks.values())) == list(range(max(blocks.values()) + 1))
    assert max(blocks.values()) + 1 == number
    values = [*blocks.values()]
    assert values == sorted(values)
    assert {name for name, block in blocks.items() if block == number - 1} >= {f"{head_of(module)[0]}.weight"}


@pytest.mark.parametrize("model", ["torchvision/resnet18", "resnet10t", "small_cnn"])
def test_frozen_blocks_change_by_no_bit(model: str) -> None:
    torch.manual_seed(0)
    options = recipe(model, freeze_blocks=3, optimizer="sgd")
    module = build_model(options, 3).module
    before = {key: value.clone() for key, value in module.state_dict().items()}
    set_frozen(module, frozen_in(module, options, 0))
    optimizer = build_optimizer(module, options, torch.device("cpu"))
    for _ in range(2):
        nn.functional.cross_entropy(module(torch.randn(4, 3, 32, 32)), torch.tensor([0, 1, 2, 0])).backward()
        optimizer.step()
    blocks = blocks_of(module)
    for name, value in module.state_dict().items():
        owner = next((key for key in blocks if key.rpartition(".")[0] == name.rpartition(".")[0]), None)
        if owner is not None and not name.endswith("num_batches_tracked"):
            assert torch.equal(value, before[name]) == (blocks[owner] < 3), name


def test_something_must_be_left_to_learn() -> None:
    options = recipe("lenet", freeze_blocks=5)
    module = build_model(options, 3).module
    with pytest.raises(FoldwiseError, match="freeze_blocks = 5 leaves nothing to learn: 'lenet' has 5 blocks"):
        frozen_in(module, options, 0)
