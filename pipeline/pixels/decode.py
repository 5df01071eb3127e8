"""Decodes images, in the same way for all stages, and checks image files strictly. Does not import torch."""

from __future__ import annotations

import io
import os
import stat
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pipeline.formats.listing import EXTENSIONS
from pipeline.system.errors import InputError
from pipeline.system.files import fingerprint

#: Largest number of pixels; a file whose header states more is refused. Far more than training needs.
MAX_PIXELS = 100_000_000
#: Largest file size in bytes; a larger file is refused without reading it.
MAX_BYTES = 500_000_000
os.environ.setdefault("CV_IO_MAX_IMAGE_PIXELS", str(MAX_PIXELS))  # cv2 reads this only once, when it is imported
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # Foldwise reports these errors itself, with the file name

import cv2
from PIL import Image, UnidentifiedImageError

Image.MAX_IMAGE_PIXELS = None  # MAX_PIXELS is checked instead, and is stricter
warnings.filterwarnings("ignore", module=r"PIL\.")  # on unusual files; inspect() reports what matters

#: Version of the decoder, part of every cache's name. Change it whenever ``decode_to_side`` returns other pixels.
DECODER = f"2-cv{cv2.__version__}"

ORIENTATION = 0x0112  # the EXIF tag


class Unreadable(InputError):
    """Raised if a file is not an image, or cannot be decoded completely."""


@dataclass(frozen=True)
class Inspection:
    """Result of the strict check of an image file.

    width, height: size in pixels, as decoded (upright)
    sha256: of the file's bytes, in hex
    notes: (problem, detail) pairs
    """

    width: int
    height: int
    sha256: str
    notes: list[tuple[str, str]] = field(default_factory=list)


#: Flags of OpenCV to decode a JPEG at 1/8, 1/4 or 1/2 of its size, which is fast: it uses fewer frequencies. (Despite
#: their names, the result has colours if they are combined with IMREAD_COLOR_RGB.)
REDUCED = {
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
    1: 0,
}


def decode(content: bytes, part: int = 1) -> np.ndarray:
    """Decodes the bytes of an image file to pixels (H, W, 3) uint8 RGB.

    The EXIF orientation is applied, 16 bits are reduced to 8, alpha is dropped, and only the first frame is read.
    part: 2, 4 or 8 to decode a JPEG at 1/2, 1/4 or 1/8 of its height and width, rounded up.
    Raises Unreadable if OpenCV fails, which it reports either by None or by an exception.
    """
    try:
        flags = cv2.IMREAD_COLOR_RGB | REDUCED[part]
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), flags) if content else None
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise MemoryError from error
        raise Unreadable(f"OpenCV: {error.err}") from error
    if pixels is None:
        raise Unreadable("OpenCV cannot decode it")
    return pixels


def shape_at_side(height: int, width: int, side: int) -> tuple[int, int]:
    """Height and width after reducing the shorter side to ``side``; a smaller image keeps its size."""
    scale = side / min(height, width)
    return (height, width) if scale >= 1 else (max(1, round(height * scale)), max(1, round(width * scale)))


def decode_to_side(content: bytes, side: int, height: int, width: int) -> np.ndarray:
    """Decodes an image to pixels (H, W, 3) uint8 RGB with a shorter side of at most ``side``; never enlarges it.

    height, width: size of the full image, from the manifest.
    A JPEG is decoded at the smallest of 1/1, 1/2, 1/4 and 1/8 of that size that is large enough. One resize does the
    rest: bilinear, or area averaging if it reduces the sides to less than half.
    Raises Unreadable, also if the size of the image differs from the manifest.
    """
    is_jpeg = content.startswith(b"\xff\xd8")
    part = next(part for part in REDUCED if part == 1 or (is_jpeg and min(height, width) >= part * side))
    pixels = decode(content, part)
    if pixels.shape[:2] != (-(-height // part), -(-width // part)):
        raise Unreadable("its size differs from the manifest")
    target = shape_at_side(height, width, side)
    if target == pixels.shape[:2]:
        return pixels
    method = cv2.INTER_AREA if min(pixels.shape[:2]) > 2 * side else cv2.INTER_LINEAR
    return cv2.resize(pixels, target[::-1], interpolation=method)


def inspect(path: Path) -> Inspection:
    """Checks strictly whether an image file can be decoded; raises Unreadable with the reason if not.

    The file is decoded by Pillow, which detects missing bytes (OpenCV fills them with grey), and then by ``decode``,
    which training uses.
    """
    try:
        found = path.stat()
    except FileNotFoundError as error:
        raise Unreadable("a link to a file that does not exist") from error
    if not stat.S_ISREG(found.st_mode):  # reading a pipe or a device would never end
        raise Unreadable("a pipe or device, not a file")
    if found.st_size > MAX_BYTES:
        raise Unreadable(f"{found.st_size:,} bytes are more than the limit of {MAX_BYTES:,}")
    content = path.read_bytes()
    if not content:
        raise Unreadable("the file is empty")
    notes: list[tuple[str, str]] = []
    try:
        with Image.open(io.BytesIO(content), formats=[name for name in EXTENSIONS if name != "MPO"]) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Unreadable(f"{image.width} x {image.height} pixels are more than the limit of {MAX_PIXELS:,}")
            notes = notes_on(path, image)
            image.load()
    except (Unreadable, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise Unreadable("not an image") from error
    except Exception as error:  # for a damaged file, Pillow may raise any exception
        raise Unreadable(f"damaged: {' '.join(str(error).split()) or type(error).__name__}") from error
    height, width = decode(content).shape[:2]
    if min(height, width) < 4:
        notes.append(("tiny", f"{width} x {height} pixels"))
    return Inspection(width, height, fingerprint(content), notes)


def notes_on(path: Path, image: Image.Image) -> list[tuple[str, str]]:
    """(problem, detail) pairs: what is unusual about a readable image, and how it is read."""
    notes = []
    suffix = path.suffix.lower()
    if suffix not in EXTENSIONS.get(image.format or "", {suffix}):
        notes.append(
            (
                "wrong type for its extension",
                f"{image.format} content in a {path.suffix} file; read as {image.format}",
            )
        )
    if image.mode.startswith(("I", "F")):
        notes.append(("more than 8 bits", f"mode {image.mode}; read as 8 bits"))
    if image.mode == "CMYK":
        notes.append(("CMYK", "converted to RGB"))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        notes.append(("transparent", "the alpha channel is dropped"))
    if getattr(image, "n_frames", 1) > 1:
        notes.append(("animated", f"{image.n_frames} frames; the first is read"))  # type: ignore[attr-defined]
    orientation = image.getexif().get(ORIENTATION, 1)
    if orientation != 1:
        notes.append(("stored rotated", f"EXIF orientation {orientation}; read upright"))
    return notes
