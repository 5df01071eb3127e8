"""The schedule, the parameter groups and the optimizers."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from torch import nn

from pipeline.learner.optimizer import build_optimizer, lr_at, parameter_groups
from pipeline.records.recipe import Recipe
from pipeline.system.errors import FoldwiseError
from tests.learner.networks import network, recipe


def test_the_schedule_warms_up_and_ends_near_zero() -> None:
    lrs = [lr_at(step, 10, recipe(warmup_epochs=1)) for step in range(100)]
    assert lrs[0] == pytest.approx(0.1 / 11) and lrs[10] == pytest.approx(0.1) and lrs[55] == pytest.approx(0.05)
    assert lrs == sorted(lrs[:11]) + sorted(lrs[11:], reverse=True) and 0 < lrs[-1] < 1e-4
    assert max(range(10), key=lambda step: lr_at(step, 10, recipe(epochs=1, warmup_epochs=5))) == 5
    assert {lr_at(step, 10, recipe(schedule="constant")) for step in range(100)} == {0.1}


def test_norms_and_biases_have_no_weight_decay() -> None:
    module = network("resnet18", 2).module
    decayed, free = parameter_groups(module, Recipe(model="resnet18", image_size=8, epochs=1, lr=1))
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.05, 0.0)
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(free["params"]) == 2 * len(norms) + 1  # weight and bias of each, and the head's bias
    assert len(decayed["params"]) + len(free["params"]) == len(list(module.parameters()))


@pytest.mark.parametrize(
    ("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)]
)
def test_optimizers(name: str, kind: type) -> None:
    assert type(build_optimizer(nn.Linear(2, 2), recipe(optimizer=name), torch.device("cpu"))) is kind


@pytest.mark.parametrize("name", ["timm/lion", "timm/muon", "timm/lamb"])
def test_timms_optimizers_continue_from_their_saved_state(name: str) -> None:
    torch.manual_seed(0)
    options = recipe(optimizer=name, lr=0.01, layer_decay=0.5, model="lenet", image_size=32)
    inputs, targets = torch.randn(8, 3, 32, 32), torch.arange(8) % 2

    def trained(steps: int, begun: dict | None = None) -> dict:
        torch.manual_seed(1)
        module = network("lenet", 2).module
        optimizer = build_optimizer(module, options, torch.device("cpu"))
        if begun:
            module.load_state_dict(begun["module"])
            optimizer.load_state_dict(begun["optimizer"])
        for _ in range(steps):
            nn.functional.cross_entropy(module(inputs), targets).backward()
            optimizer.step()
            optimizer.zero_grad()
        return copy.deepcopy({"module": module.state_dict(), "optimizer": optimizer.state_dict()})

    whole, half = trained(4)["module"], trained(2)
    with io.BytesIO() as file:  # as a checkpoint keeps it: plain types and tensors
        torch.save(half, file)
        file.seek(0)
        half = torch.load(file, weights_only=True)
    continued = trained(2, half)["module"]
    assert all(torch.equal(whole[key], continued[key]) for key in whole)
    assert any(not torch.equal(whole[key], half["module"][key]) for key in whole)


def test_an_unknown_optimizer_of_timm_is_named() -> None:
    with pytest.raises(FoldwiseError, match="unknown optimizer 'timm/lyon'; did you mean 'lion'"):
        build_optimizer(nn.Linear(2, 2), recipe(optimizer="timm/lyon"), torch.device("cpu"))
    with pytest.raises(FoldwiseError, match="the optimizer 'timm/bnblion8bit' cannot be used here"):
        build_optimizer(nn.Linear(2, 2), recipe(optimizer="timm/bnblion8bit"), torch.device("cpu"))
