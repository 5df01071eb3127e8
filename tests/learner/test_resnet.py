"""The residual networks from their blocks are torchvision's: the same state dicts, outputs and parameter counts."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

from pipeline.learner import resnet  # noqa: F401  its networks are registered when it is imported
from pipeline.learner.networks import REGISTERED

#: Parameters at 1,000 classes, as https://docs.pytorch.org/vision/stable/models.html lists them.
PUBLISHED = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnext50_32x4d": 25_028_904,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_state_dict_of_torchvision_loads_and_the_outputs_agree(name: str) -> None:
    torch.manual_seed(0)
    theirs = torchvision.models.get_model(name, weights=None, num_classes=1000)
    for part in theirs.modules():
        if isinstance(part, nn.BatchNorm2d):  # as after a training
            assert part.running_mean is not None and part.running_var is not None
            nn.init.normal_(part.running_mean, std=0.1)
            nn.init.uniform_(part.running_var, 0.5, 2)
    ours = REGISTERED[f"foldwise/{name}"].build(1000)
    assert sum(parameter.numel() for parameter in ours.parameters()) == PUBLISHED[name]
    ours.load_state_dict(theirs.state_dict(), strict=True)
    images = torch.randn(2, 3, 96, 96)
    with torch.inference_mode():
        expected = theirs.eval()(images)
        assert expected.std() > 0.01
        torch.testing.assert_close(
            ours.eval()(images) / expected.std(), expected / expected.std(), atol=1e-5, rtol=1e-5
        )


def test_it_is_the_grouped_convolution_that_makes_a_resnext() -> None:
    plain, grouped = (REGISTERED[f"foldwise/{name}"].build(1000) for name in ("resnet50", "resnext50_32x4d"))
    convolutions = [part for part in grouped.modules() if isinstance(part, nn.Conv2d) and part.kernel_size == (3, 3)]
    assert {part.groups for part in convolutions} == {32}
    assert {part.groups for part in plain.modules() if isinstance(part, nn.Conv2d)} == {1}
    dense = sum(part.weight.numel() * part.groups for part in convolutions)
    saved = dense - sum(part.weight.numel() for part in convolutions)
    assert PUBLISHED["resnext50_32x4d"] + saved > 2 * PUBLISHED["resnet50"]  # without groups it would be twice as large


def test_the_small_stem_keeps_small_images_large() -> None:
    sizes = {}
    for stem in ("large", "small"):
        module = REGISTERED["foldwise/resnet18"].build(10, stem=stem, width=8)
        module.get_submodule("layer1").register_forward_hook(
            lambda _part, _inputs, maps, stem=stem: sizes.update({stem: tuple(maps.shape)})
        )
        assert module(torch.randn(2, 3, 32, 32)).shape == (2, 10)
    assert sizes == {"large": (2, 8, 8, 8), "small": (2, 8, 32, 32)}
