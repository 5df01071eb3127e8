"""The small networks: their sizes, and what they take."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pipeline.learner import resnet  # noqa: F401  its networks are registered when it is imported
from pipeline.learner.networks import REGISTERED, AdaptivePool, GlobalMaxPool, cnn, lenet, register_model


def number_of_weights(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_lenet_has_the_weights_of_the_paper() -> None:
    """61,706 for ten classes and one channel, as commonly counted; two more channels add 2 x 6 x 25 weights."""
    assert number_of_weights(lenet(10)) == 61_706 + 2 * 6 * 25


@pytest.mark.parametrize("name", ["lenet", "cnn", "cnn_dropout", "cnn_batchnorm", "small_cnn", "cifar_net"])
@pytest.mark.parametrize("side", [32, 40])
def test_images_of_any_size(name: str, side: int) -> None:
    module = REGISTERED[name].build(3).eval()
    assert module(torch.randn(2, 3, side, side)).shape == (2, 3)


@pytest.mark.parametrize("side", [1, 4, 5])
@pytest.mark.parametrize("shape", [(32, 32), (5, 5), (13, 22), (8, 9), (10, 10), (3, 2)])
def test_the_pools_are_torchs(side: int, shape: tuple[int, int]) -> None:
    """torch's adaptive pools have no deterministic gradient on CUDA; these give the same values and gradients."""
    maps = torch.randn(2, 3, *shape, generator=torch.Generator().manual_seed(0))
    for ours, theirs in (
        (AdaptivePool(side), nn.AdaptiveAvgPool2d(side)),
        (GlobalMaxPool(), nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten())),
    ):
        found = []
        for pool in (ours, theirs):
            inputs = maps.clone().requires_grad_()
            pooled = pool(inputs)
            pooled.backward(torch.linspace(-1, 1, pooled.numel()).view(pooled.shape))
            found.append((pooled.detach(), inputs.grad))
        torch.testing.assert_close(found[0], found[1], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", sorted(REGISTERED))
def test_deterministic_training_works_for_every_network(name: str) -> None:
    """None has a layer that docs.pytorch.org lists as one that raises on CUDA (torch.use_deterministic_algorithms)."""
    raising = (nn.AdaptiveMaxPool2d, nn.FractionalMaxPool2d, nn.MaxUnpool2d, nn.ReflectionPad2d, nn.Upsample)
    for part in REGISTERED[name].build(3).modules():
        assert not isinstance(part, raising)
        assert not isinstance(part, nn.AdaptiveAvgPool2d) or part.output_size in (1, (1, 1))  # 1: torch takes a mean


def test_dropout_and_batch_norm_are_what_their_names_say() -> None:
    kinds = [{type(part) for part in cnn(2, **options).modules()} for options in ({}, {"batch_norm": True})]
    assert nn.BatchNorm2d not in kinds[0] and nn.BatchNorm2d in kinds[1]
    dropouts = [part.p for part in cnn(2, dropout=0.3).modules() if isinstance(part, nn.Dropout)]
    assert dropouts == [0.3, 0.3]


def test_a_function_becomes_a_model_of_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.learner.networks.REGISTERED", {})
    from pipeline.learner import networks

    @register_model()
    def my_net(num_classes: int) -> nn.Module:
        return nn.LazyLinear(num_classes)

    assert list(networks.REGISTERED) == ["my_net"] and networks.REGISTERED["my_net"].build is my_net
