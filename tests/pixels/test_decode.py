"""One decoder, and a strict look at every file."""

from __future__ import annotations

import hashlib
import io
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageOps

from pipeline.pixels import decode as decode_module
from pipeline.pixels.cache import open_pixels, readable_rows
from pipeline.pixels.decode import Unreadable, decode, decode_to_side, inspect
from pipeline.records.paths import Paths
from pipeline.records.tables import read_manifest
from pipeline.system.places import CHECKOUT
from tests.conftest import Edit, Failure, Stage, start_stage
from tests.mutations import damaged, empty_competition

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


DEEP = (np.arange(32 * 48).reshape(32, 48) + 500).astype(np.uint16)  # 1,536 levels; the upper 8 bits keep 6


@pytest.mark.parametrize("format", ["PNG", "TIFF", "PPM", "JPEG2000"])
@pytest.mark.parametrize("offset", [0, 30_000])
def test_few_of_sixteen_bits_are_stretched(format: str, offset: int) -> None:
    pixels = decode(encoded(Image.fromarray(DEEP + np.uint16(offset)), format))
    low, high = np.percentile(DEEP, [0.1, 99.9])
    expected = np.clip((DEEP - low) / (high - low) * 255, 0, 255)
    assert np.abs(pixels - expected[..., None]).max() <= 0.6 and len(np.unique(pixels)) == 256


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_colours_of_sixteen_bits_keep_their_contrast(tmp_path: Path, suffix: str, alpha: bool) -> None:
    deep = np.dstack([DEEP, DEEP[::-1], DEEP[:, ::-1]])
    path = tmp_path / f"x{suffix}"
    path.write_bytes(cv2.imencode(suffix, np.dstack([deep[..., ::-1], *([DEEP * 9] if alpha else [])]))[1].tobytes())
    pixels = decode(path.read_bytes())
    assert [note for note, _ in inspect(path).notes][-1] == "more than 8 bits"
    for channel in range(3):
        assert np.corrcoef(pixels[..., channel].ravel(), deep[..., channel].ravel())[0, 1] > 0.9999
        assert len(np.unique(pixels[..., channel])) == 256


def test_defective_pixels_do_not_take_the_contrast() -> None:
    deep = np.tile(DEEP, (8, 8))
    deep[3, 5], deep[7, 9] = 65_535, 0
    assert len(np.unique(decode(encoded(Image.fromarray(deep), "PNG")))) == 256
    constant = np.full((9, 9), 700, np.uint16)
    assert np.ptp(decode(encoded(Image.fromarray(constant), "PNG"))) == 0
    with_gaps = np.linspace(0, 1, 600, dtype=np.float32).reshape(20, 30)
    for missing in (np.nan, np.inf, -3.4e38):
        with_gaps[0, :8] = missing
        assert len(np.unique(decode(encoded(Image.fromarray(with_gaps), "TIFF"))[1:])) > 240


#: Formats and modes that they can hold, with options for few losses.
MODES = {
    "PNG": ["RGB", "RGBA", "LA", "P"], "TIFF": ["RGB", "RGBA", "LA", "P"], "WEBP": ["RGB", "RGBA"],
    "AVIF": ["RGB", "RGBA"], "JPEG2000": ["RGB", "RGBA", "LA"], "GIF": ["RGB", "RGBA", "P"], "JPEG": ["RGB", "L"],
    "BMP": ["RGB", "P"],
}  # fmt: skip
OPTIONS: dict[str, dict] = {"WEBP": {"lossless": True}, "AVIF": {"quality": 100}, "JPEG": {"quality": 98}}


@pytest.mark.parametrize("rotated", [False, True])
@pytest.mark.parametrize(("format", "mode"), [(format, mode) for format, modes in MODES.items() for mode in modes])
def test_every_format_gives_the_picture_that_pillow_sees(tmp_path: Path, format: str, mode: str, rotated: bool) -> None:
    """Colours in their order, upright, alpha dropped and not multiplied."""
    image = RGB.convert(mode)
    if mode == "RGBA":
        image.putalpha(Image.fromarray(GRADIENT[..., 0]))
    exif = Image.Exif()
    exif[0x0112] = 6 if rotated else 1
    path = tmp_path / "x.img"
    path.write_bytes(encoded(image, format, exif=exif, **OPTIONS.get(format, {})))
    with Image.open(io.BytesIO(path.read_bytes())) as opened:
        seen = np.asarray(ImageOps.exif_transpose(opened).convert("RGB")).astype(int)
    assert np.abs(decode(path.read_bytes()) - seen).mean() < 1
    inspection = inspect(path)
    assert (inspection.height, inspection.width) == seen.shape[:2]


def test_a_file_that_two_readers_see_otherwise_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(PNG)
    monkeypatch.setattr(decode_module, "read_with_opencv", lambda *_: GRADIENT[..., ::-1])
    with pytest.raises(Unreadable, match="OpenCV and Pillow make different pictures of it"):
        inspect(path)


def test_a_portable_float_map_has_three_channels_in_the_cache(shapes: Paths, stage: Stage) -> None:
    values = np.random.default_rng(0).random((24, 24)).astype(np.float32)
    (shapes.raw / "test" / "5.png").write_bytes(encoded(Image.fromarray(values), "PPM"))
    stage("manifest")
    rows = readable_rows(read_manifest(shapes.manifest))
    pixels = open_pixels(shapes, rows, 20, "train")
    for row in range(len(pixels)):
        np.testing.assert_array_equal(pixels[row], pixels.decode(row))


def test_the_limit_of_the_pixels_is_a_fact(shapes: Paths, stage: Stage, failure: Failure, edit: Edit) -> None:
    edit("title ", "max_pixels = 399\ntitle ")
    assert "20 x 20 pixels are more than the limit of 399; raise max_pixels in competition.toml" in failure("manifest")
    edit("max_pixels = 399", "max_pixels = 400")
    stage("manifest")


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
        with pytest.raises(Unreadable, match="size differs from the manifest"):
            decode_to_side(content, 16, 64, 64)


def encoded_photo(image: Image.Image, format: str, **options: Any) -> bytes:
    """An image file's bytes."""
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


PHOTO = Image.fromarray(
    np.indices((40, 30)).sum(0).astype(np.uint8)[..., None].repeat(3, 2) * np.array([1, 2, 3], np.uint8)
)


PHOTO_JPEG, PHOTO_PNG = encoded_photo(PHOTO, "JPEG"), encoded_photo(PHOTO, "PNG")


DAMAGED_PHOTOS = {
    "empty": b"",
    "html": b"<html><body>404</body></html>",
    "text": b"not an image",
    "half a JPEG": PHOTO_JPEG[: len(PHOTO_JPEG) // 2],
    "JPEG without its end": PHOTO_JPEG[:-20],
    "JPEG header": PHOTO_JPEG[:30],
    "half a PNG": PHOTO_PNG[: len(PHOTO_PNG) // 2],
    "PNG header": PHOTO_PNG[:20],
    "PNG with a flipped byte": PHOTO_PNG[:60] + bytes([PHOTO_PNG[60] ^ 255]) + PHOTO_PNG[61:],
    "half a GIF": encoded_photo(PHOTO, "GIF")[:200],
    "half a WebP": encoded_photo(PHOTO, "WEBP")[:60],
    "half a BMP": encoded_photo(PHOTO, "BMP")[:900],
}


def test_damaged_images(split: Paths, failure: Failure, edit: Callable[[str, str], None], stage: Stage) -> None:
    for number, content in enumerate(DAMAGED_PHOTOS.values()):
        (split.raw / "train" / f"circle_{1000 + number}.png").write_bytes(content)
    assert f"{len(DAMAGED_PHOTOS)} of 72 train files cannot be used" in failure("manifest")
    edit("[test]", "max_bad = 0.5\n[test]")
    stage("manifest")
    named = pd.read_csv(split.problems)
    assert (named["problem"] == "unreadable").sum() == len(DAMAGED_PHOTOS)
    assert named["detail"].str.len().min() > 8
    assert (read_manifest(split.manifest)["split"] == "train").sum() == 60


def test_a_png_with_a_flipped_byte_never_kills_the_process(split: Paths, root: Path) -> None:
    """One byte after another; which of them are noticed is the decoder's affair, that it lives is ours."""
    for at in range(8, len(PHOTO_PNG), 3):
        content = PHOTO_PNG[:at] + bytes([PHOTO_PNG[at] ^ 0x55]) + PHOTO_PNG[at + 1 :]
        (split.raw / "test" / f"{100 + at}.png").write_bytes(content)
    sample = split.raw / "sample_submission.csv"
    sample.write_text("id,label\n" + "".join(f"{path.stem},circle\n" for path in (split.raw / "test").iterdir()))
    process = start_stage(root, "manifest")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "note: unreadable" in out


def test_a_decompression_bomb(split: Paths, root: Path) -> None:
    """A 1-bit PNG of 40,000 x 30,000 pixels, 146 KB: named by its header, in little memory."""
    bomb = encoded_photo(Image.new("1", (40000, 30000)), "PNG")
    (split.raw / "test" / "5.png").write_bytes(bomb)
    code = (
        "import sys; from pipeline.pixels.decode import inspect, Unreadable; from pathlib import Path\n"
        "try: inspect(Path(sys.argv[1]))\n"
        "except Unreadable as fault: print(fault)\n"
        "print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, split.raw / "test" / "5.png"], cwd=CHECKOUT, capture_output=True, text=True
    )
    said, peak = done.stdout.splitlines()
    assert said.startswith("40000 x 30000 pixels are more than") and int(peak) < 200_000, done.stdout
    process = start_stage(root, "manifest")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0 and "40000 x 30000 pixels" in out, err


ORIENTED = Image.Exif()
ORIENTED[0x0112] = 6


ALPHA = Image.fromarray(np.dstack([np.asarray(PHOTO), np.full((40, 30), 128, np.uint8)]))


#: sha256 of the RGB pixels that each file must give, whatever the stage: with the versions of constraints.txt.
GOLDEN = {
    "RGB": (PHOTO_PNG, "c47834452cc0"),
    "grey": (encoded_photo(PHOTO.convert("L"), "PNG"), "3e6871052898"),
    "palette": (encoded_photo(PHOTO.quantize(16), "PNG"), "c8fe55e6d622"),
    "alpha": (encoded_photo(ALPHA, "PNG"), "c47834452cc0"),
    "16 bits": (
        encoded_photo(Image.fromarray(np.indices((40, 30)).sum(0).astype(np.uint16) * 900), "PNG"),
        "2495fae08590",
    ),
    "CMYK": (encoded_photo(PHOTO.convert("CMYK"), "JPEG", quality=95), "370127c38a0c"),
    "EXIF": (encoded_photo(PHOTO, "JPEG", quality=95, exif=ORIENTED), "6abd2cfc9742"),
}


@pytest.mark.parametrize("kind", GOLDEN)
def test_every_mode_gives_the_same_rgb_in_every_stage(
    split: Paths, stage: Stage, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, sha256 = GOLDEN[kind]
    pixels = decode(content)
    assert hashlib.sha256(pixels.tobytes()).hexdigest().startswith(sha256), kind
    assert pixels.shape == ((30, 40, 3) if kind == "EXIF" else (40, 30, 3))
    (split.raw / "test" / "5.png").write_bytes(content)
    stage("manifest")
    rows = readable_rows(read_manifest(split.manifest))
    row = int(rows.query("split == 'test' and image_id == '5'")["position"].iloc[0])
    trained_on = open_pixels(split, rows, 64, "train")[row]
    monkeypatch.setattr("pipeline.pixels.cache.MAX_DISK_FRACTION", 0)
    monkeypatch.setattr(Paths, "cache", split.home / "elsewhere")
    predicted_on = open_pixels(split, rows, 64, "predict")[row]
    np.testing.assert_array_equal(trained_on, pixels)
    np.testing.assert_array_equal(predicted_on, pixels)


FORMATS = {".png": "PNG", ".gif": "GIF", ".webp": "WEBP", ".bmp": "BMP", ".tif": "TIFF", ".jpg": "JPEG", ".ppm": "PPM"}


def odd_name(number: int, suffix: str, rng: random.Random) -> str:
    """A file name that may have another extension, none, or letters that trip up careless code."""
    label = rng.choice(["cat", "dog", "CAT", "", "ca t", "größe", "日本", "=1+1", "a,b", 'q"', "x" * 180, "nan", "-"])
    suffix = rng.choice([suffix, suffix, suffix.upper(), ".jpg", ".png", "", ".txt", ".jpg.exe"])
    return f"{label}{rng.choice('_._. ') if label else '_'}{number}{suffix}"  # a name with a dot first is no image's


def test_a_thousand_damaged_images_are_read_alike_everywhere_or_named(
    root: Path, originals: list[tuple[str, bytes]]
) -> None:
    """Damaged before the manifest, which runs as a process, so that a crash would show."""
    rng, home = random.Random(0), empty_competition(root)
    for number in range(1000):
        suffix, content = rng.choice(originals)
        named = (
            odd_name(number, suffix, rng) if rng.random() < 0.3 else f"{rng.choice(['cat', 'dog'])}_{number}{suffix}"
        )
        (home / "raw" / "train" / named).write_bytes(damaged(content, originals, rng))
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.manifest", "--competition", "mutated"], cwd=CHECKOUT, timeout=300,
        env={**os.environ, "FOLDWISE_ROOT": str(root)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr[-2000:]

    paths = Paths("mutated")
    manifest, problems = read_manifest(paths.manifest), pd.read_csv(paths.problems, keep_default_na=False)
    files = {f"raw/train/{path.name}" for path in (home / "raw" / "train").iterdir()}
    dropped = set(problems.loc[~problems["path"].isin(manifest["path"]), "path"])
    assert set(manifest["path"]) | dropped == files and 200 < len(manifest) < 700
    rows = readable_rows(manifest)
    cached = open_pixels(paths, rows, 48, "train")
    for row, (path, height, width) in enumerate(zip(rows["path"], rows["height"], rows["width"], strict=True)):
        content = (home / path).read_bytes()
        np.testing.assert_array_equal(cached[row], decode_to_side(content, 48, height, width))
        with Image.open(io.BytesIO(content)) as image:  # another decoder sees the same picture: no black square
            seen = np.asarray(ImageOps.exif_transpose(image).convert("RGB")).astype(int)
        assert np.abs(seen - decode(content)).mean() < 3, path
