"""Grad-CAM."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.learner.gradcam import grad_cam
from pipeline.learner.networks import REGISTERED


def test_the_heat_is_the_class_activation_map() -> None:
    """Where a mean and a linear layer end a network, Grad-CAM is CAM (Zhou et al., 2016), which needs no gradient."""
    torch.manual_seed(0)
    module = REGISTERED["small_cnn"].build(3, width=4).eval()
    inputs = torch.randn(1, 3, 32, 32)
    assert isinstance(module, nn.Sequential)
    ends = next(place for place, part in enumerate(module) if isinstance(part, nn.AdaptiveAvgPool2d))
    head = module[-1]
    assert isinstance(head, nn.Linear)
    with torch.no_grad():
        maps = module[:ends](inputs)
        cam = (head.weight[2].view(1, -1, 1, 1) * maps).sum(1, keepdim=True).relu()
        cam = nn.functional.interpolate(cam, (32, 32), mode="bilinear")[0, 0]
    heat = grad_cam(module, inputs, 2)
    assert heat is not None and heat.max() == pytest.approx(1)
    np.testing.assert_allclose(heat, cam / cam.max(), atol=1e-5)
