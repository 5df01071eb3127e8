"""Convolutions as products of matrices are torch's convolutions, forth and back."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import timm
import torch
from torch import nn

from pipeline.learner.small_maps import KernelProducts, SmallMapConv2d, use_matrix_products

#: (maps H x W, kernel, stride, padding)
SHAPES = [
    ((4, 4), (3, 3), (1, 1), (1, 1)),
    ((4, 4), (3, 3), (2, 2), (1, 1)),
    ((2, 2), (3, 3), (1, 1), (1, 1)),
    ((1, 1), (3, 3), (1, 1), (1, 1)),
    ((1, 1), (3, 3), (2, 2), (1, 1)),
    ((5, 3), (3, 3), (2, 2), (1, 1)),
    ((3, 5), (1, 3), (1, 2), (0, 1)),
    ((4, 3), (1, 1), (2, 2), (0, 0)),
    ((4, 4), (2, 2), (1, 1), (0, 0)),
    ((2, 3), (5, 5), (1, 1), (2, 2)),
    ((1, 2), (7, 7), (4, 4), (3, 3)),
]


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize(("sides", "kernel", "stride", "padding"), SHAPES)
def test_results_and_gradients_are_torchs(
    sides: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int],
    channels_last: bool,
) -> None:  # fmt: skip
    torch.manual_seed(0)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    maps = torch.randn(3, 8, *sides, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
    weight = torch.randn(6, 8, *kernel, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
    ours = KernelProducts.apply(maps, weight, stride, padding)
    theirs = nn.functional.conv2d(maps, weight, None, stride, padding)
    torch.testing.assert_close(ours, theirs)
    gradient = torch.randn_like(theirs)
    of_ours, of_theirs = (torch.autograd.grad(result, (maps, weight), gradient) for result in (ours, theirs))
    torch.testing.assert_close(of_ours, of_theirs)
    assert of_ours[1].stride() == weight.stride()  # as the optimizer walks through memory


def test_only_small_maps_of_many_channels_take_the_products(monkeypatch: pytest.MonkeyPatch) -> None:
    taken, apply = [], KernelProducts.apply

    def noted(maps: torch.Tensor, *rest: Any) -> torch.Tensor:
        taken.append(tuple(maps.shape[1:]))
        return apply(maps, *rest)

    monkeypatch.setattr(KernelProducts, "apply", noted)
    module = use_matrix_products(timm.create_model("resnet18", num_classes=2))
    module(torch.randn(2, 3, 64, 64))
    assert taken == [(256, 4, 4)] * 4 + [(512, 2, 2), (256, 4, 4), (512, 2, 2), (512, 2, 2)]
    taken.clear()
    module(torch.randn(2, 3, 288, 288))  # maps of 9x9 at the end
    assert taken == []


def test_a_network_is_the_same_but_faster() -> None:
    torch.manual_seed(0)
    plain = timm.create_model("resnet18", num_classes=3).double()
    ours = use_matrix_products(copy.deepcopy(plain))
    assert {type(part) for part in ours.modules() if isinstance(part, nn.Conv2d)} == {SmallMapConv2d}
    assert ours.state_dict().keys() == plain.state_dict().keys()
    images = torch.randn(4, 3, 64, 64, dtype=torch.float64)
    for module in (plain, ours):
        module(images).square().sum().backward()
    for (name, expected), parameter in zip(plain.named_parameters(), ours.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, expected.grad, msg=name)
    torch.testing.assert_close(ours.eval()(images), plain.eval()(images))


def test_other_convolutions_stay_what_they_are() -> None:
    class Special(nn.Conv2d):
        pass

    others = [
        nn.Conv2d(8, 8, 3, groups=2), nn.Conv2d(8, 8, 3, dilation=2), nn.Conv2d(8, 8, 3, padding="same"),
        nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect"), Special(8, 8, 3),
    ]  # fmt: skip
    before = [type(part) for part in others]
    use_matrix_products(nn.ModuleList(others))
    assert [type(part) for part in others] == before


def test_a_bias_is_added_and_frozen_weights_get_no_gradient() -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(128, 4, 3, padding=1)
    ours = use_matrix_products(copy.deepcopy(plain))
    for module in (plain, ours):
        module.weight.requires_grad_(False)
    maps = torch.randn(2, 128, 2, 2, requires_grad=True)
    gradients = [torch.autograd.grad(module(maps).square().sum(), maps)[0] for module in (plain, ours)]
    torch.testing.assert_close(*gradients, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(ours(maps), plain(maps), atol=1e-5, rtol=1e-5)
