"""The mean of the last checkpoints is the mean of the weights at fixed steps."""

from __future__ import annotations

import pytest
import torch
from timm.utils import ModelEmaV3
from torch import nn

from pipeline.learner.averages import LastAverage, average_of
from pipeline.records.recipe import Recipe
from tests.conftest import Stage
from tests.learner.networks import recipe
from tests.trainings import FOLD_0, Paths, forget, stopped_at_once, trained


@pytest.mark.parametrize(
    ("last", "spacing", "expected"),
    [(3, 1.0, [29, 39, 49]), (2, 0.5, [44, 49]), (1, 1.0, [49]), (9, 1.0, [9, 19, 29, 39, 49])],
)
def test_it_is_the_mean_at_fixed_steps(last: int, spacing: float, expected: list[int]) -> None:
    options = recipe(epochs=5, average_last=last, average_spacing=spacing)
    module = nn.Linear(3, 2)
    average, seen = LastAverage(module, options, steps=10), []
    for step in range(50):
        with torch.no_grad():
            module.weight.normal_()
        seen.append(module.weight.detach().clone())
        average.update(module, step)
        if step == 19 and expected[0] > 19:  # until the first of these steps, the end of the last epoch
            assert torch.equal(average.module.get_parameter("weight"), seen[19])
    mean = torch.stack([seen[step] for step in expected]).mean(dim=0)
    torch.testing.assert_close(average.module.get_parameter("weight"), mean)


def test_the_moving_average_is_timms() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    ours, theirs = average_of(module, recipe(ema_decay=0.9), 10), ModelEmaV3(module, decay=0.9, use_warmup=True)
    assert ours is not None
    for step in range(8):
        module(torch.randn(2, 3, 8, 8)).sum().backward()
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(torch.randn_like(parameter))
        ours.update(module, step=step)
        theirs.update(module, step=step)
    mine, expected = ours.module.state_dict(), theirs.module.state_dict()
    assert int(mine["1.num_batches_tracked"]) == 8
    assert all(torch.equal(mine[name], expected[name]) for name in expected)


def test_one_average_at_a_time() -> None:
    assert average_of(nn.Linear(2, 2), recipe(), 10) is None
    with pytest.raises(ValueError, match="average_last and ema_decay"):
        Recipe.model_validate({**recipe().model_dump(), "average_last": 2, "ema_decay": 0.9})


def test_an_interruption_changes_no_bit(split: Paths, stage: Stage) -> None:
    settings = ["epochs=4", "average_last=3", "average_spacing=0.5"]
    stage("train", *FOLD_0, *settings)
    undisturbed = trained(split)
    forget(split)
    for _ in range(6):
        with stopped_at_once():
            stage("train", *FOLD_0, *settings)
    stage("train", *FOLD_0, *settings)
    assert trained(split) == undisturbed
