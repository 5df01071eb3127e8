"""The one decoder of all stages, and the strict check of a file before it is trusted. No torch here."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pipeline.records.errors import FoldwiseError
from pipeline.records.files import fingerprint

#: Pixels beyond which a file is refused by its header: two orders above any photograph worth training on here.
MAX_PIXELS = 100_000_000
os.environ.setdefault("CV_IO_MAX_IMAGE_PIXELS", str(MAX_PIXELS))  # read once, when cv2 is imported
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # it would print to stderr what we report by name

import cv2  # noqa: E402
from PIL import Image, UnidentifiedImageError  # noqa: E402

#: Changes when ``decode_to_side`` would give other pixels; part of every cache's key.
DECODER = f"1-cv{cv2.__version__}"

EXTENSIONS = {
    "JPEG": {".jpg", ".jpeg", ".jpe", ".jfif"},
    "MPO": {".jpg", ".jpeg", ".mpo"},
    "PNG": {".png"},
    "GIF": {".gif"},
    "BMP": {".bmp", ".dib"},
    "TIFF": {".tif", ".tiff"},
    "WEBP": {".webp"},
    "AVIF": {".avif"},
    "PPM": {".ppm", ".pgm", ".pbm", ".pnm"},
    "JPEG2000": {".jp2", ".j2k"},
}
ORIENTATION = 0x0112  # the EXIF tag


class Unreadable(FoldwiseError):
    """The file holds no picture that can be decoded whole."""


@dataclass(frozen=True)
class Inspection:
    """What a strict look at a file found. Sizes in pixels, as decoded (upright). notes: (problem, detail) pairs."""

    width: int
    height: int
    sha256: str
    notes: list[tuple[str, str]] = field(default_factory=list)


def decode(content: bytes) -> np.ndarray:
    """Pixels (H, W, 3) uint8 RGB of an encoded image: upright by its EXIF tag, 8 bits, alpha dropped, first frame.

    Raises Unreadable. OpenCV reports a failure in two ways, by None and by an exception.
    """
    try:
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB) if content else None
    except cv2.error as error:
        raise Unreadable(f"OpenCV: {error.err}") from error
    if pixels is None:
        raise Unreadable("OpenCV cannot decode it")
    return pixels


def decode_to_side(path: Path, side: int) -> np.ndarray:
    """Pixels (H, W, 3) uint8 RGB whose shorter side is at most ``side``; never enlarged. Raises Unreadable."""
    pixels = decode(path.read_bytes())
    height, width = pixels.shape[:2]
    scale = side / min(height, width)
    if scale >= 1:
        return pixels
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)


def inspect(path: Path) -> Inspection:
    """Decodes a file once, strictly: Pillow to notice missing bytes, which OpenCV fills with grey, and then the
    decoder that training uses. Raises Unreadable with the reason."""
    content = path.read_bytes()
    if not content:
        raise Unreadable("the file is empty")
    notes: list[tuple[str, str]] = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is stricter
            with Image.open(path) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise Unreadable(f"{image.width} x {image.height} pixels are more than {MAX_PIXELS:,}")
                notes = notes_on(path, image)
                image.load()
    except Unreadable:
        raise
    except UnidentifiedImageError as error:
        raise Unreadable("not an image") from error
    except (Image.DecompressionBombError, OSError, SyntaxError, ValueError, EOFError) as error:
        raise Unreadable(f"damaged: {error}") from error
    height, width = decode(content).shape[:2]
    if min(height, width) < 4:
        notes.append(("tiny", f"{width} x {height} pixels"))
    return Inspection(width, height, fingerprint(content), notes)


def notes_on(path: Path, image: Image.Image) -> list[tuple[str, str]]:
    """What is unusual about a readable image, and how it is read."""
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
