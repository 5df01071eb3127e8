"""The constants are those that timm and torchvision publish."""

from __future__ import annotations

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, IMAGENET_INCEPTION_MEAN, IMAGENET_INCEPTION_STD
from torchvision.models import ResNet18_Weights

from pipeline.pixels.preprocessing import IMAGENET, MINUS_ONE_TO_ONE


def test_constants() -> None:
    assert (IMAGENET.mean, IMAGENET.std) == (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
    assert (MINUS_ONE_TO_ONE.mean, MINUS_ONE_TO_ONE.std) == (IMAGENET_INCEPTION_MEAN, IMAGENET_INCEPTION_STD)
    torchvision = ResNet18_Weights.DEFAULT.transforms()
    assert (list(IMAGENET.mean), list(IMAGENET.std)) == (torchvision.mean, torchvision.std)
    assert IMAGENET.crop_share == torchvision.crop_size[0] / torchvision.resize_size[0]
    assert IMAGENET.interpolation == torchvision.interpolation.value
