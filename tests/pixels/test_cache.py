"""The pixel cache holds the same pixels as the files."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.manifest import make_manifest
from pipeline.pixels.cache import Pixels, open_pixels, readable_rows
from pipeline.records.competition import load_competition
from pipeline.records.paths import Paths
from pipeline.system.errors import FoldwiseError
from tests.conftest import write_image
from tests.mutations import damaged, empty_competition


def test_with_the_cache_or_without_it_the_pixels_are_the_same(
    shapes: Paths, rows: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = open_pixels(shapes, rows, 24, "train")
    monkeypatch.setattr("pipeline.pixels.cache.MAX_DISK_FRACTION", 0)
    monkeypatch.setattr(Paths, "cache", shapes.home / "elsewhere")
    direct = open_pixels(shapes, rows, 24, "train")
    assert cached.cached is not None and direct.cached is None
    for row in range(len(rows)):
        np.testing.assert_array_equal(cached[row], direct[row])
    assert {min(cached[row].shape[:2]) for row in range(len(rows))} <= set(range(9, 25))


def test_a_cache_is_built_once_and_again_for_other_images(shapes: Paths, rows: pd.DataFrame) -> None:
    first = open_pixels(shapes, rows, 24, "train").cached
    assert open_pixels(shapes, rows, 24, "train").cached == first
    assert open_pixels(shapes, rows, 16, "train").cached != first
    assert open_pixels(shapes, rows.iloc[:-1], 24, "train").cached != first


def test_a_cache_may_lie_on_another_disk(
    shapes: Paths, rows: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOLDWISE_CACHE", str(tmp_path / "fast"))
    cached = open_pixels(shapes, rows, 24, "train").cached
    assert cached is not None and cached.parent == tmp_path / "fast" / "shapes" and cached.exists()


def test_of_two_that_want_a_cache_one_builds_it_and_the_other_waits(
    shapes: Paths, rows: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    decoded: list[int] = []
    both_want_it = threading.Barrier(2)
    decode = Pixels.decode

    def counted(pixels: Pixels, row: int) -> np.ndarray:
        if not decoded:
            both_want_it.wait(10)
            time.sleep(0.2)  # the other one comes to the lock meanwhile
        decoded.append(row)
        return decode(pixels, row)

    def second() -> Path | None:
        both_want_it.wait(10)
        return open_pixels(shapes, rows, 24, "train").cached

    monkeypatch.setattr(Pixels, "decode", counted)
    monkeypatch.setattr("pipeline.system.threads.cores", lambda: 1)
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(second)
        first = open_pixels(shapes, rows, 24, "train").cached
        assert other.result() == first
    assert sorted(decoded) == list(range(len(rows)))
    assert "waiting for another process" in capsys.readouterr().out


def test_a_picture_that_changed_after_the_manifest_is_named(shapes: Paths, rows: pd.DataFrame) -> None:
    write_image(shapes.raw / "test" / "3.png", np.zeros((5, 90, 3), np.uint8))
    with pytest.raises(FoldwiseError, match=r"test/3\.png has changed"):
        open_pixels(shapes, rows, 24, "train")


FORMATS = {".png": "PNG", ".gif": "GIF", ".webp": "WEBP", ".bmp": "BMP", ".tif": "TIFF", ".jpg": "JPEG", ".ppm": "PPM"}


def test_images_damaged_after_the_manifest_are_refused_or_not_needed(
    root: Path, originals: list[tuple[str, bytes]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng, home = random.Random(1), empty_competition(root)
    for number in range(200):
        suffix, content = rng.choice(originals)
        (home / "raw" / "train" / f"{rng.choice(['cat', 'dog'])}_{number}{suffix}").write_bytes(content)
    paths = Paths("mutated")
    rows = readable_rows(make_manifest(paths, load_competition(paths), {})[0])
    cached = open_pixels(paths, rows, 48, "train")
    before = [np.array(cached[row]) for row in range(len(rows))]
    monkeypatch.setattr("pipeline.pixels.cache.MAX_DISK_FRACTION", 0)
    monkeypatch.setattr(Paths, "cache", home / "elsewhere")
    direct = open_pixels(paths, rows, 48, "train")
    refused = 0
    for _ in range(5):  # a thousand in all
        for row, path in enumerate(rows["path"]):
            content = (home / path).read_bytes()
            changed = damaged(content, originals, rng)
            (home / path).write_bytes(changed)
            np.testing.assert_array_equal(cached[row], before[row])  # the cache holds the checked pixels
            if changed == content:
                np.testing.assert_array_equal(direct[row], before[row])
            else:
                refused += 1
                with pytest.raises(FoldwiseError, match="has changed since the manifest was made"):
                    direct[row]
            (home / path).write_bytes(content)
    assert refused > 700
