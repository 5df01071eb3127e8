"""Normalisation is torchvision's; Mixup and CutMix mix targets as they mix pixels."""

from __future__ import annotations

import pytest
import torch
from torchvision.transforms import functional as reference

from pipeline.learner.inputs import Mixer, Normalize
from pipeline.pixels.preprocessing import IMAGENET
from tests.learner.networks import recipe


@pytest.mark.parametrize("channels_last", [False, True])
def test_normalisation_is_torchvisions(channels_last: bool) -> None:
    images = torch.randint(0, 256, (5, 7, 9, 3), dtype=torch.uint8)
    expected = reference.normalize(images.permute(0, 3, 1, 2) / 255, IMAGENET.mean, IMAGENET.std)
    inputs = Normalize(IMAGENET, channels_last)(images)
    torch.testing.assert_close(inputs, expected, atol=1e-5, rtol=1e-5)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    assert inputs.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_mixing_mixes_targets_as_it_mixes_pixels(kind: str) -> None:
    torch.manual_seed(0)
    inputs = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 3, 16, 16).clone()
    targets = torch.eye(4)
    mixed, mixed_targets = Mixer(recipe(**{kind: 1.0}))(inputs, targets)
    assert not torch.equal(mixed, inputs)
    torch.testing.assert_close(mixed_targets.sum(dim=1), torch.ones(4))
    torch.testing.assert_close(mixed.mean(dim=(1, 2, 3)), mixed_targets @ torch.arange(4.0))
    same, same_targets = Mixer(recipe(**{kind: 1.0}, mix_probability=0))(inputs, targets)
    assert torch.equal(same, inputs) and torch.equal(same_targets, targets)
