"""The one decoder of all stages, and the strict check of a file before it is trusted. No torch here."""

from __future__ import annotations

import io
import os
import stat
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pipeline.system.errors import FoldwiseError
from pipeline.system.files import fingerprint

#: Pixels beyond which a file is refused by its header: two orders above any photograph worth training on here.
MAX_PIXELS = 100_000_000
#: Bytes beyond which a file is not even read.
MAX_BYTES = 500_000_000
os.environ.setdefault("CV_IO_MAX_IMAGE_PIXELS", str(MAX_PIXELS))  # read once, when cv2 is imported
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # it would print to stderr what we report by name

import cv2
from PIL import Image, UnidentifiedImageError

Image.MAX_IMAGE_PIXELS = None  # our limit is the stricter one
warnings.filterwarnings("ignore", module=r"PIL\.")  # on odd files; what matters of it is found by the strict check

#: Changes when ``decode_to_side`` would give other pixels; part of every cache's key.
DECODER = f"2-cv{cv2.__version__}"

#: What is read, by Pillow's names, and how such files are called. (MPO is a JPEG until Pillow has opened it.)
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


#: How OpenCV is asked for a JPEG at a part of its size, which its decoder makes of fewer frequencies. (The flags are
#: named after grey pictures; with IMREAD_COLOR_RGB they mean the same part of a coloured one.)
REDUCED = {
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
    1: 0,
}


def decode(content: bytes, part: int = 1) -> np.ndarray:
    """Pixels (H, W, 3) uint8 RGB of an encoded image: upright by its EXIF tag, 8 bits, alpha dropped, first frame.

    part: 2, 4 or 8 for a JPEG at half, a quarter or an eighth of its sides, rounded up.
    Raises Unreadable. OpenCV reports a failure in two ways, by None and by an exception.
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
    """Height and width of a picture whose shorter side is brought down to ``side``; a smaller one stays as it is."""
    scale = side / min(height, width)
    return (height, width) if scale >= 1 else (max(1, round(height * scale)), max(1, round(width * scale)))


def decode_to_side(content: bytes, side: int, height: int, width: int) -> np.ndarray:
    """Pixels (H, W, 3) uint8 RGB whose shorter side is at most ``side``; never enlarged.

    height, width: those of the whole picture, by the manifest. A JPEG is decoded at the smallest part of them that
    is large enough, and one resize does the rest: bilinear, or the mean of the area where the step is over two.
    Raises Unreadable, also when the file no longer holds a picture of that size.
    """
    is_jpeg = content.startswith(b"\xff\xd8")
    part = next(part for part in REDUCED if part == 1 or (is_jpeg and min(height, width) >= part * side))
    pixels = decode(content, part)
    if pixels.shape[:2] != (-(-height // part), -(-width // part)):
        raise Unreadable("it has another size than in the manifest")
    target = shape_at_side(height, width, side)
    if target == pixels.shape[:2]:
        return pixels
    method = cv2.INTER_AREA if min(pixels.shape[:2]) > 2 * side else cv2.INTER_LINEAR
    return cv2.resize(pixels, target[::-1], interpolation=method)


def inspect(path: Path) -> Inspection:
    """Decodes a file once, strictly: Pillow to notice missing bytes, which OpenCV fills with grey, and then the
    decoder that training uses. Raises Unreadable with the reason."""
    try:
        found = path.stat()
    except FileNotFoundError as error:
        raise Unreadable("a link to a file that does not exist") from error
    if not stat.S_ISREG(found.st_mode):  # reading a pipe or a device would never end
        raise Unreadable("a pipe or device, not a file")
    if found.st_size > MAX_BYTES:
        raise Unreadable(f"{found.st_size:,} bytes are more than {MAX_BYTES:,}")
    content = path.read_bytes()
    if not content:
        raise Unreadable("the file is empty")
    notes: list[tuple[str, str]] = []
    try:
        with Image.open(io.BytesIO(content), formats=[name for name in EXTENSIONS if name != "MPO"]) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Unreadable(f"{image.width} x {image.height} pixels are more than {MAX_PIXELS:,}")
            notes = notes_on(path, image)
            image.load()
    except (Unreadable, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise Unreadable("not an image") from error
    except Exception as error:  # Pillow's readers raise whatever a damaged header leads them to
        raise Unreadable(f"damaged: {' '.join(str(error).split()) or type(error).__name__}") from error
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
