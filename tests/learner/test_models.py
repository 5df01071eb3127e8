"""Networks by name."""

from __future__ import annotations

import pytest
import torch

from pipeline.learner.networks import REGISTERED
from pipeline.system.errors import FoldwiseError
from tests.learner.networks import network


#: The last is a hybrid of a ResNet and a transformer.
@pytest.mark.parametrize("name", [*REGISTERED, "resnet18", "torchvision/resnet18", "vit_tiny_r_s16_p8_224"])
def test_models_by_name(name: str) -> None:
    assert network(name, 7).module.eval()(torch.randn(2, 3, 32, 32)).shape == (2, 7)


def test_models_that_cannot_be_had() -> None:
    with pytest.raises(FoldwiseError, match="did you mean 'small_cnn'"):
        network("smal_cnn", 2)
    with pytest.raises(FoldwiseError, match="no pretrained weights of 'small_cnn'"):
        network("small_cnn", 2, pretrained=True)
