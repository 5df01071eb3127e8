"""Decodes images, in the same way for all stages, and checks image files strictly. Does not import torch.

OpenCV reads JPEG, PNG, BMP and WebP, since it is fast; pydicom reads DICOM, and Pillow the other formats. This depends
only on the content of the file. Where OpenCV makes a visibly different picture than Pillow, the file is refused.
"""

from __future__ import annotations

import io
import os
import stat
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pipeline.formats.dicom import dicom_pixels, is_dicom, too_large
from pipeline.formats.listing import EXTENSIONS
from pipeline.system.errors import InputError
from pipeline.system.files import fingerprint

#: Largest number of pixels by default; a file whose header states more is refused. Far more than training needs.
MAX_PIXELS = 100_000_000
#: Largest file size in bytes; a larger file is refused without reading it.
MAX_BYTES = 500_000_000
os.environ.setdefault("CV_IO_MAX_IMAGE_PIXELS", str(2**40))  # inspect() checks this, by the limit of the competition
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # Foldwise reports these errors itself, with the file name

import cv2
from PIL import Image, ImageOps, UnidentifiedImageError

Image.MAX_IMAGE_PIXELS = None  # inspect() checks this, and is stricter
warnings.filterwarnings("ignore", module=r"PIL\.")  # on unusual files; inspect() reports what matters

#: Version of the decoder, part of every cache's name. Change it whenever ``decode_to_side`` returns other pixels.
DECODER = f"3-cv{cv2.__version__}"

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


#: Beginnings of files. The byte 24 of a PNG is the number of bits of a channel.
JPEG, PNG, TIFFS = b"\xff\xd8", b"\x89PNG", (b"II", b"MM")
#: Formats that Pillow is asked for.
PILLOW_FORMATS = [name for name in EXTENSIONS if name != "MPO"]
#: Tags of TIFF: bits of each channel.
BITS_PER_SAMPLE = 258
#: Floats of this size or more are no measured values.
MISSING = 1e30
#: Mean difference from which two pictures differ visibly, and the share of values that may differ by a quarter.
VISIBLE, VISIBLE_SHARE = 3, 0.01


def decode(content: bytes, part: int = 1) -> np.ndarray:
    """Decodes the bytes of an image file to pixels (H, W, 3) uint8 RGB.

    The EXIF orientation is applied, more than 8 bits are scaled by ``as_uint8``, alpha is dropped, and only the first
    frame is read.
    part: 2, 4 or 8 to decode a JPEG at 1/2, 1/4 or 1/8 of its height and width, rounded up.
    Raises Unreadable if the file cannot be decoded.
    """
    return as_uint8(read(content, part))


def read(content: bytes, part: int = 1) -> np.ndarray:
    """As ``decode``, but with the values as they are stored: (H, W, 3) uint8, uint16, int32 or float32."""
    if is_dicom(content):
        return read_dicom(content)
    is_for_opencv = content.startswith((JPEG, PNG, b"BM")) or content[8:12] == b"WEBP"
    pixels = read_with_opencv(content, part) if is_for_opencv else read_with_pillow(content)
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.size == 0:
        raise Unreadable(f"it decodes to an array of shape {pixels.shape}")
    return pixels


def read_dicom(content: bytes, max_pixels: int | None = None) -> np.ndarray:
    """As ``read``, of a DICOM file."""
    try:
        return dicom_pixels(content, max_pixels)
    except InputError as fault:
        raise Unreadable(str(fault)) from fault


def read_with_opencv(content: bytes, part: int = 1) -> np.ndarray:
    """As ``read``, by OpenCV, which reports a failure either by None or by an exception."""
    is_deep = content.startswith(TIFFS) or (content.startswith(PNG) and content[24:25] == b"\x10")
    try:
        # Not IMREAD_COLOR_RGB: with IMREAD_ANYDEPTH, OpenCV 5.0 makes noise of TIFF.
        flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH if is_deep else cv2.IMREAD_COLOR_RGB | REDUCED[part]
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), flags) if content else None
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise MemoryError from error
        raise Unreadable(f"OpenCV: {error.err}") from error
    if pixels is None:
        raise Unreadable("OpenCV cannot decode it")
    return np.ascontiguousarray(pixels[..., ::-1]) if is_deep and pixels.ndim == 3 else pixels


def read_with_pillow(content: bytes) -> np.ndarray:
    """As ``read``, by Pillow, except for TIFF of more than 8 bits in several channels, which Pillow would cut off."""
    try:
        with Image.open(io.BytesIO(content), formats=PILLOW_FORMATS) as image:
            bits = getattr(image, "tag_v2", {}).get(BITS_PER_SAMPLE, (8,))
            if len(bits) > 1 and max(bits) > 8:
                return read_with_opencv(content)
            return pixels_of(image)
    except (Unreadable, MemoryError):
        raise
    except Exception as error:  # for a damaged file, Pillow may raise any exception
        raise Unreadable(f"damaged: {' '.join(str(error).split()) or type(error).__name__}") from error


def pixels_of(image: Image.Image) -> np.ndarray:
    """The pixels (H, W, 3) of an image that Pillow has opened: upright, without alpha, of any depth."""
    upright = ImageOps.exif_transpose(image) if image.getexif().get(ORIENTATION, 1) != 1 else image
    if upright.mode.startswith(("I", "F")):  # one channel with more than 8 bits
        return np.repeat(np.asarray(upright)[..., None], 3, axis=2)
    return np.asarray(upright if upright.mode == "RGB" else upright.convert("RGB"))


def as_uint8(values: np.ndarray) -> np.ndarray:
    """Scales the values of an image to uint8, so that its contrast is kept.

    uint8 stays as it is. Of 16 bits whose values span at least half of the range, the upper 8 bits are kept. In all
    other images, such as 12 bits stored in 16, or floats, the range between the 0.1th and the 99.9th percentile becomes
    0 to 255, so that a few defective pixels do not matter.
    """
    if values.dtype == np.uint8:
        return values
    known = values
    if values.dtype.kind == "f":  # NaN, or a number such as -3.4e38, stands for a missing value
        missing = ~(np.abs(values) < MISSING)
        known = values[~missing].astype(np.float64)
        if not known.size:
            return np.zeros(values.shape, np.uint8)
        values = np.where(missing, known.min(), values.astype(np.float64))
    low, high = np.percentile(known, [0.1, 99.9])
    if low == high:
        low, high = known.min(), known.max()
    if values.dtype.kind != "f" and high - low >= 2**15 and values.min() >= 0 and values.max() < 2**16:
        return (values >> 8).astype(np.uint8)
    scaled = (values.astype(np.float64) - low) * (255 / max(float(high) - float(low), 1e-12))
    return np.clip(np.round(scaled), 0, 255).astype(np.uint8)


def differ_visibly(pixels: np.ndarray, reference: np.ndarray) -> bool:
    """True if two readers made different pictures (H, W, 3) of a file; compares about 10,000 pixels."""
    if pixels.shape != reference.shape:
        return True
    step = max(1, int((pixels.shape[0] * pixels.shape[1] / 10_000) ** 0.5))
    both = [upper_byte(values[::step, ::step]).astype(np.int16) for values in (pixels, reference)]
    difference = np.abs(both[0] - both[1])
    return bool(difference.mean() > VISIBLE or (difference > 64).mean() > VISIBLE_SHARE)


def upper_byte(values: np.ndarray) -> np.ndarray:
    """Values of 16 bits as 8 bits."""
    return values if values.dtype == np.uint8 else values >> 8


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
    is_jpeg = content.startswith(JPEG)
    part = next(part for part in REDUCED if part == 1 or (is_jpeg and min(height, width) >= part * side))
    pixels = decode(content, part)
    if pixels.shape[:2] != (-(-height // part), -(-width // part)):
        raise Unreadable("its size differs from the manifest")
    target = shape_at_side(height, width, side)
    if target == pixels.shape[:2]:
        return pixels
    method = cv2.INTER_AREA if min(pixels.shape[:2]) > 2 * side else cv2.INTER_LINEAR
    return cv2.resize(pixels, target[::-1], interpolation=method)


def inspect(path: Path, max_pixels: int = MAX_PIXELS) -> Inspection:
    """Checks strictly whether an image file can be decoded; raises Unreadable with the reason if not.

    The file is decoded by Pillow, which detects missing bytes (OpenCV fills them with grey), and by ``read``, which
    training uses; the two must agree.
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
    if is_dicom(content):
        height, width = read_dicom(content, max_pixels).shape[:2]
        return Inspection(width, height, fingerprint(content))
    try:
        with Image.open(io.BytesIO(content), formats=PILLOW_FORMATS) as image:
            if image.width * image.height > max_pixels:
                raise Unreadable(too_large(image.width, image.height, max_pixels))
            notes = notes_on(path, image)
            image.load()
            reference = pixels_of(image)
    except (Unreadable, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise Unreadable("not an image") from error
    except Exception as error:  # for a damaged file, Pillow may raise any exception
        raise Unreadable(f"damaged: {' '.join(str(error).split()) or type(error).__name__}") from error
    pixels = read(content)
    height, width = pixels.shape[:2]
    if pixels.dtype != np.uint8:
        span = f"{np.nanmin(pixels):g} to {np.nanmax(pixels):g}" if not np.isnan(pixels).all() else "nothing"
        notes.append(("more than 8 bits", f"{pixels.dtype} from {span}, scaled to 8 bits"))
    if pixels.dtype in (np.uint8, np.uint16) and differ_visibly(pixels, reference):
        raise Unreadable("OpenCV and Pillow make different pictures of it; save it again, for example as PNG")
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
