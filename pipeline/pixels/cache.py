"""Pixels decoded once: a flat uint8 file that all folds, epochs, recipes and stages share.

The cache only memoises ``decode_to_side``: with it or without it the pixels are the same bits. No torch here.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.pixels.decode import DECODER, decode_to_side
from pipeline.records.console import progress, say
from pipeline.records.errors import FoldwiseError
from pipeline.records.files import atomic_path, fingerprint
from pipeline.records.paths import Paths, shown
from pipeline.records.threads import in_threads

#: Share of the free disk that a cache may take; beyond it images are decoded on the fly.
DISK_SHARE = 0.5


class Pixels:
    """Pictures of manifest rows by position: ``pixels[3]`` is uint8 (H, W, 3) RGB, its shorter side up to ``side``."""

    def __init__(self, files: Sequence[Path], side: int, cached: Path | None) -> None:
        self.files, self.side, self.cached = list(files), side, cached
        self._flat: np.ndarray | None = None
        if cached is not None:
            self.shapes = np.load(cached.with_suffix(".npy"))  # (N, 2) height and width
            self.starts = np.concatenate([[0], np.cumsum(self.shapes.prod(axis=1) * 3)])

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, row: int) -> np.ndarray:
        if self.cached is None:
            return decode_to_side(self.files[row], self.side)
        if self._flat is None:  # opened where it is used: a loader process maps the file itself
            self._flat = np.memmap(self.cached, np.uint8, "r")
        return self._flat[self.starts[row] : self.starts[row + 1]].reshape(*self.shapes[row], 3)

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_flat": None}


def cached_shapes(rows: pd.DataFrame, side: int) -> np.ndarray:
    """Height and width (N, 2) that ``decode_to_side`` will give, from the sizes in the manifest."""
    sizes = rows[["height", "width"]].to_numpy()
    scale = np.minimum(1.0, side / sizes.min(axis=1, keepdims=True))
    return np.where(scale < 1, np.maximum(1, np.round(sizes * scale)), sizes).astype(np.int64)


def readable_rows(manifest: pd.DataFrame) -> pd.DataFrame:
    """The manifest's readable rows with ``position``, their place among the pixels of ``open_pixels``."""
    rows = manifest[manifest["width"] > 0]
    return rows.assign(position=np.arange(len(rows)))


def open_pixels(paths: Paths, rows: pd.DataFrame, side: int, stage: str) -> Pixels:
    """Pictures of readable manifest rows (path, width, height, sha256), from a cache that is built if it is missing.

    A file that no longer has the size of its manifest row is refused by name.
    """
    files = [paths.home / path for path in rows["path"]]
    key = fingerprint([side, DECODER, *rows["sha256"]])[:12]
    cached = paths.cache / f"side{side}-{key}.u8"
    if cached.exists() and cached.with_suffix(".npy").exists():
        return Pixels(files, side, cached)
    shapes = cached_shapes(rows, side)
    size = int(shapes.prod(axis=1).sum()) * 3
    paths.cache.mkdir(parents=True, exist_ok=True)
    if size > DISK_SHARE * shutil.disk_usage(paths.cache).free:
        say(
            stage,
            f"a pixel cache of {size / 1e9:.1f} GB would take over half of the free disk; decoding on the fly",
        )
        return Pixels(files, side, None)

    def decoded(row: int) -> np.ndarray:
        pixels = decode_to_side(files[row], side)
        if pixels.shape[:2] != tuple(shapes[row]):
            raise FoldwiseError(
                f"{shown(files[row])} has changed since the manifest was made; type make manifest, or put it back"
            )
        return pixels

    with atomic_path(cached) as temporary, temporary.open("wb") as file:
        for pixels in progress(in_threads(decoded, range(len(files))), len(files), stage, "decoding once"):
            file.write(pixels.data)
    with atomic_path(cached.with_suffix(".npy")) as temporary:
        np.save(temporary, shapes)
    return Pixels(files, side, cached)
