"""Views, their average, and BatchNorm fused into convolutions."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.learner.arrangement import Compute, choose_arrangement
from pipeline.learner.inference import Model, View, apply_view, fuse_batchnorm, predict, tta_views
from pipeline.learner.inputs import Normalize
from pipeline.pixels.dataset import Batch
from pipeline.pixels.preprocessing import IMAGENET
from pipeline.records.command_line import Machine
from pipeline.records.recipe import Recipe
from pipeline.tasks.classification import Classification
from tests.learner.networks import network, recipe


def compute_of(recipe: Recipe) -> Compute:
    """That of a CPU."""
    device = torch.device("cpu")
    return Compute(device, choose_arrangement(recipe, device, Machine(threads=1), 100))


@pytest.mark.parametrize(
    ("symmetries", "number"),
    [([], 1), (["hflip"], 2), (["hflip", "vflip"], 4), (["rot90"], 4), (["rot90", "hflip"], 8), (["transpose"], 2)],
)
def test_views_are_all_that_the_symmetries_make(symmetries: list[str], number: int) -> None:
    views = tta_views(symmetries)
    picture = torch.randn(1, 3, 6, 6)
    assert len({apply_view(picture, view).numpy().tobytes() for view in views}) == number == len(views)
    assert views[0] == ()


def test_predictions_are_means_over_views_by_row() -> None:
    module, normalize = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 3)), Normalize(IMAGENET)
    images = torch.randint(0, 256, (5, 4, 4, 3), dtype=torch.uint8)

    class Shuffled:
        def __len__(self) -> int:
            return 2

        def epoch(self, epoch: int = 0, start: int = 0) -> Iterator[Batch]:
            yield images[[4, 1]], torch.tensor([4, 1])
            yield images[[0, 2, 3]], torch.tensor([0, 2, 3])

    other = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 3))
    views: list[View] = [(), ("hflip",)]
    task = Classification(["a", "b", "c"])
    models = [Model(module, task), Model(other, task)]
    probs, of_other = predict(models, normalize, Shuffled(), views, compute_of(recipe()))
    inputs = normalize(images)
    expected = (module(inputs).softmax(1) + module(inputs.flip(3)).softmax(1)) / 2
    np.testing.assert_allclose(probs, expected.detach().numpy(), atol=1e-6)
    assert np.abs(of_other - probs).max() > 0.01


@pytest.mark.parametrize("name", ["small_cnn", "resnet18", "torchvision/resnet50", "tf_efficientnet_lite0"])
def test_folding_batchnorm_changes_no_probability(name: str) -> None:
    torch.manual_seed(0)
    module = network(name, 3).module.eval()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):  # as after a training
            assert part.running_mean is not None and part.running_var is not None
            nn.init.uniform_(part.weight, 0.8, 1.2)
            nn.init.normal_(part.bias, std=0.1)
            nn.init.normal_(part.running_mean, std=0.1)
            nn.init.uniform_(part.running_var, 0.8, 1.25)
    head = [part for part in module.modules() if isinstance(part, nn.Linear)][-1]
    inputs = torch.randn(4, 3, 64, 64) * torch.arange(1, 5).view(4, 1, 1, 1)
    with torch.inference_mode():
        logits = module(inputs)
        spread = logits.std(dim=0).max()  # the head is made to tell the pictures apart
        head.weight /= spread
        head.bias.copy_((head.bias - logits.mean(dim=0)) / spread)
        expected = module(inputs).softmax(1)
        quick = fuse_batchnorm(module)
        torch.testing.assert_close(quick(inputs).softmax(1), expected, atol=1e-5, rtol=0)
    assert expected.std(dim=0).max() > 0.01
    assert not any(isinstance(part, nn.BatchNorm2d) for part in quick.modules())
    assert any(isinstance(part, nn.BatchNorm2d) for part in module.modules())


def test_a_layer_that_is_used_twice_is_left_as_it_is() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.other = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.BatchNorm2d(3)
            for norm in (self.norm, self.other):
                nn.init.uniform_(norm.weight)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.norm(self.conv(x)) + self.other(self.conv(x))

    module, inputs = Twice().eval(), torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(fuse_batchnorm(module)(inputs), module(inputs))


def test_norms_without_statistics_and_layers_called_by_keyword_are_left_as_they_are() -> None:
    class Unusual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.other = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
            self.norm = nn.BatchNorm2d(3, track_running_stats=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.norm(self.conv(self.other(input=x)))

    module, inputs = Unusual().eval(), torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(fuse_batchnorm(module)(inputs), module(inputs))


def test_a_module_that_cannot_be_traced_is_left_as_it_is() -> None:
    class Branching(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum() > 0 else -x

    module = Branching()
    assert fuse_batchnorm(module) is module
