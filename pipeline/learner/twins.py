"""Finds near-duplicates among images: resized, recompressed, slightly cropped or mirrored copies.

Candidates are the nearest neighbours by features and by small thumbnails. Each pair of candidates is then aligned (ECC,
Evangelidis & Psarakis, 2008), and counts if the fine details of both images agree.

Legend: N images, D features, S side of the compared images.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import cv2
import numpy as np

from pipeline.system.threads import in_threads

#: Sides in pixels of the thumbnails and of the images that are aligned.
THUMBNAIL, SIDE = 16, 96
#: Standard deviation in pixels of the blur that is taken away, so that only fine details remain.
BLUR = 3
#: Neighbours of each image that are compared with it, by features and by thumbnails.
NEIGHBOURS = 3
#: Largest number of pairs that are aligned: this many, and one for every four images.
MAX_PAIRS = 3000
#: Images that are compared with all others at once.
BLOCK = 512
#: Least agreement of the fine details, and how much it must exceed that of images that are surely different.
LEAST, MARGIN = 0.8, 0.12
#: Agreement that even images of one kind, such as silhouettes, do not reach unless they are copies.
CERTAIN = 0.94
#: Largest change of scale, rotation and shear by the alignment, and smallest share of the image that must overlap.
MAX_CHANGE, LEAST_OVERLAP = 0.25, 0.7


class Twins(NamedTuple):
    """Two images that are nearly the same.

    one, other: their rows, one < other
    agreement: correlation of their fine details, up to 1
    """

    one: int
    other: int
    agreement: float


def grey(image: np.ndarray, side: int) -> np.ndarray:
    """The image (H, W, 3) as (side, side) uint8, stretched."""
    return cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (side, side), interpolation=cv2.INTER_AREA)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors (N, K) divided by their lengths."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)


def neighbours(features: np.ndarray, thumbnails: np.ndarray) -> list[tuple[int, int, bool]]:
    """Pairs of rows that may be twins, with True if one seems mirrored, the most similar first.

    features: (N, D); thumbnails: (N, T, T) uint8
    """
    plain = [thumbnails, thumbnails[:, :, ::-1]]
    flat = [unit(each.reshape(len(each), -1) - each.mean(axis=(1, 2))[:, None]).astype(np.float32) for each in plain]
    common = (flat[0].mean(axis=0) + flat[1].mean(axis=0)) / 2  # what all images share, such as a bright centre
    straight, mirrored = (unit(each - common) for each in flat)
    described = unit(features - features.mean(axis=0))
    found: dict[tuple[int, int], tuple[float, bool]] = {}
    for start in range(0, len(features), BLOCK):
        rows = np.arange(start, min(start + BLOCK, len(features)))
        as_is, turned = straight[rows] @ straight.T, straight[rows] @ mirrored.T
        by_features, by_pixels = described[rows] @ described.T, np.maximum(as_is, turned)
        kept = min(NEIGHBOURS + 1, len(features))  # one of them is the image itself
        for similarity in (by_features, by_pixels):
            nearest = np.argpartition(-similarity, kept - 1, axis=1)[:, :kept]
            for place, row in enumerate(rows.tolist()):
                for other in nearest[place].tolist():
                    if other != row:
                        value = float(max(by_features[place, other], by_pixels[place, other]))
                        found[min(row, other), max(row, other)] = (value, turned[place, other] > as_is[place, other])
    most = MAX_PAIRS + len(features) // 4
    ordered = sorted(found.items(), key=lambda item: (-item[1][0], item[0]))[:most]
    return [(one, other, bool(is_mirrored)) for (one, other), (_, is_mirrored) in ordered]


def agreement(one: np.ndarray, other: np.ndarray) -> float:
    """How well the fine details of two images (S, S) uint8 correlate after an affine alignment; -1 if none is found."""
    first: Any = one.astype(np.float32) / 255
    second: Any = other.astype(np.float32) / 255
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 40, 1e-4)
    try:
        everywhere: Any = None
        begun: Any = np.eye(2, 3, dtype=np.float32)
        _, warp = cv2.findTransformECC(first, second, begun, cv2.MOTION_AFFINE, criteria, everywhere, 5)
    except cv2.error:  # it does not converge, as for most different images
        return -1.0
    if np.abs(warp[:, :2] - np.eye(2)).max() > MAX_CHANGE:
        return -1.0
    size, inverse = first.shape[::-1], cv2.WARP_INVERSE_MAP
    moved = cv2.warpAffine(second, warp, size, flags=cv2.INTER_LINEAR + inverse)
    inside = cv2.warpAffine(np.ones_like(second), warp, size, flags=cv2.INTER_NEAREST + inverse) > 0
    if inside.mean() < LEAST_OVERLAP:
        return -1.0
    # Where the blur reaches over the edge of one image, it shows no details.
    inner = cv2.erode(inside.astype(np.uint8), np.ones((2 * BLUR + 3, 2 * BLUR + 3)), borderValue=0) > 0
    fine = [(image - cv2.GaussianBlur(image, (0, 0), BLUR))[inner] for image in (first, moved)]
    spread = [part.std() for part in fine]
    if min(spread) < 1e-4:  # plain surfaces have no details to compare
        return -1.0
    return float(np.corrcoef(fine)[0, 1])


def find_twins(features: np.ndarray, image_of: Callable[[int], np.ndarray]) -> list[Twins]:
    """The near-duplicates among N images, the most alike first.

    features: (N, D), best the mean of an image and its mirror image
    image_of: function row -> image (H, W, 3) uint8
    """
    if len(features) < 2:
        return []
    thumbnails = np.stack(list(in_threads(lambda row: grey(image_of(row), THUMBNAIL), range(len(features)))))
    pairs = neighbours(features, thumbnails)

    def compared(pair: tuple[int, int, bool]) -> Twins:
        one, other, is_mirrored = pair
        first, second = grey(image_of(one), SIDE), grey(image_of(other), SIDE)
        return Twins(one, other, agreement(first, np.ascontiguousarray(second[:, ::-1]) if is_mirrored else second))

    twins = list(in_threads(compared, pairs))
    limit = least_agreement(twins)
    return sorted((pair for pair in twins if pair.agreement >= limit), key=lambda pair: (-pair.agreement, pair[:2]))


def least_agreement(twins: list[Twins]) -> float:
    """The agreement from which two images count as twins.

    In sets of similar images, such as radiographs, different images agree too. Pairs that are the best match of neither
    of their images show how much.
    """
    alike: dict[int, dict[int, float]] = {}
    for pair in twins:
        alike.setdefault(pair.one, {})[pair.other] = pair.agreement
        alike.setdefault(pair.other, {})[pair.one] = pair.agreement

    def are_different(pair: Twins) -> bool:
        """True if each agrees better with another image, unless both are copies of a third one, as in triplets."""
        one, other = alike[pair.one], alike[pair.other]
        third = any(min(one[row], other[row]) >= CERTAIN for row in one.keys() & other.keys())
        return pair.agreement < min(max(one.values()), max(other.values())) and not third

    different = [pair.agreement for pair in twins if are_different(pair)]
    if not different:
        return LEAST
    high = float(np.quantile(different, 0.995))
    return max(LEAST, high + min(MARGIN, (1 - high) / 2))
