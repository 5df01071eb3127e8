"""Resizes very long images for a crop of their centre."""

from __future__ import annotations

from typing import Any

import albumentations as A
import numpy as np

#: From this aspect ratio on, an image is a strip, of which a middle of STRIP_KEPT times the shorter side is kept.
STRIP_RATIO, STRIP_KEPT = 16, 4


def middle_of_strip(image: np.ndarray) -> np.ndarray:
    """The image (H, W, 3); of a strip only the middle, with the same centre."""
    height, width = image.shape[:2]
    if max(height, width) < STRIP_RATIO * min(height, width):
        return image
    kept = STRIP_KEPT * min(height, width)
    top, left = ((length - kept) // 2 if length > kept else 0 for length in (height, width))
    return np.ascontiguousarray(image[top : height - top, left : width - left])


class ShorterSide(A.SmallestMaxSize):
    """Resizes the shorter side, before a crop of the centre.

    Of a strip, only the middle is resized: the whole strip of 20,000 x 2 pixels would become 2,560,000 x 256.
    """

    def __call__(self, *args: Any, force_apply: bool = False, **kwargs: Any) -> dict[str, Any]:
        return super().__call__(*args, force_apply=force_apply, **{**kwargs, "image": middle_of_strip(kwargs["image"])})
