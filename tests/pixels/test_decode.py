"""One decoder, and a strict look at every file."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from pipeline.pixels import decode as decode_module
from pipeline.pixels.decode import Unreadable, decode, decode_to_side, inspect

GRADIENT = np.dstack([np.tile(np.arange(48, dtype=np.uint8) * 5, (32, 1))] * 2 + [np.full((32, 48), 90, np.uint8)])


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    """Bytes of an image file."""
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


RGB = Image.fromarray(GRADIENT)


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF"])
def test_lossless_formats_decode_to_the_same_rgb(format: str) -> None:
    np.testing.assert_array_equal(decode(encoded(RGB, format)), GRADIENT)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_every_mode_becomes_three_channels(mode: str) -> None:
    image = RGB.convert(mode)
    pixels = decode(encoded(image, "TIFF" if mode == "CMYK" else "PNG"))
    assert pixels.shape == (32, 48, 3) and pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - np.asarray(image.convert("RGB"))).mean() < 4


def test_sixteen_bits_keep_their_high_byte() -> None:
    deep = (np.arange(32 * 48).reshape(32, 48) * 42).astype(np.uint16)
    pixels = decode(encoded(Image.fromarray(deep), "PNG"))
    assert np.abs(pixels[..., 0].astype(int) - (deep >> 8)).max() <= 1


def test_a_picture_stored_rotated_is_read_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "rotated.jpg"
    path.write_bytes(encoded(RGB, "JPEG", exif=exif, quality=95))
    upright = np.asarray(ImageOps.exif_transpose(Image.open(path)))
    seen = inspect(path)
    assert (seen.height, seen.width) == (48, 32) == upright.shape[:2]
    assert np.abs(decode(path.read_bytes()).astype(int) - upright).mean() < 2
    assert [problem for problem, _ in seen.notes] == ["stored rotated"]


JPEG = encoded(RGB.resize((160, 120)), "JPEG")
PNG = encoded(RGB, "PNG")


@pytest.mark.parametrize(
    "content",
    [b"", b"<html></html>", JPEG[:20], JPEG[: len(JPEG) // 2], JPEG[:-60], PNG[:40], PNG[:-30]]
    + [PNG[:at] + bytes([PNG[at] ^ 255]) + PNG[at + 1 :] for at in (5, 20, 50, len(PNG) // 2)],
)
def test_damaged_files_are_refused_with_a_reason(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.jpg"
    path.write_bytes(content)
    with pytest.raises(Unreadable, match=r".{8,}"):
        inspect(path)


def test_a_bomb_is_refused_by_its_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(encoded(Image.new("1", (12000, 12000)), "PNG"))
    monkeypatch.setattr(decode_module, "decode", lambda _: pytest.fail("it was decoded"))
    with pytest.raises(Unreadable, match="12000 x 12000 pixels are more than"):
        inspect(path)


def test_the_shorter_side_is_cut_to_size_and_never_enlarged() -> None:
    assert decode_to_side(PNG, 16, 32, 48).shape == (16, 24, 3)
    np.testing.assert_array_equal(decode_to_side(PNG, 64, 32, 48), GRADIENT)
    assert decode_to_side(encoded(RGB.resize((500, 2)), "PNG"), 1, 2, 500).shape == (1, 250, 3)


@pytest.mark.parametrize("side", [8, 20, 31, 60, 61, 119])
def test_a_jpeg_decoded_at_a_part_of_its_size_is_the_same_picture(side: int) -> None:
    whole = decode(JPEG)
    small = decode_to_side(JPEG, side, 120, 160)
    assert small.shape == (side, round(160 * side / 120), 3)
    reference = np.asarray(Image.fromarray(whole).resize(small.shape[1::-1], Image.Resampling.BOX))
    assert np.abs(small.astype(int) - reference).mean() < 2


def test_a_picture_of_another_size_than_the_manifest_says_is_refused() -> None:
    for content in (PNG, JPEG):
        with pytest.raises(Unreadable, match="another size"):
            decode_to_side(content, 16, 64, 64)
