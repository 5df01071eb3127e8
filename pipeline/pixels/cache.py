"""Pixels decoded once: a flat uint8 file that all folds, epochs, recipes and stages share.

The cache only memoises ``decode_to_side``: with it or without it the pixels are the same bits. No torch here.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.pixels.decode import DECODER, Unreadable, decode_to_side, shape_at_side
from pipeline.records.paths import Paths
from pipeline.system.console import progress, say
from pipeline.system.errors import FoldwiseError
from pipeline.system.files import atomic_path, fingerprint
from pipeline.system.locks import held
from pipeline.system.places import shown
from pipeline.system.threads import in_threads

#: Share of the free disk that a cache may take; beyond it images are decoded on the fly.
DISK_SHARE = 0.5


class Pixels:
    """Pictures of readable manifest rows by position: ``pixels[3]`` is uint8 (H, W, 3) RGB, its shorter side up to
    ``side``. They come from the flat file ``cached``, or are decoded from the files where that is None.

    sizes, shapes: (N, 2) int, height and width of the files' pictures and of these. starts: (N + 1,) int, where each
    picture begins in the flat file.
    """

    def __init__(self, home: Path, rows: pd.DataFrame, side: int, cached: Path | None) -> None:
        self.home = home
        self.paths = rows["path"].tolist()
        self.sizes = rows[["height", "width"]].to_numpy(np.int64)
        self.sha256s = rows["sha256"].tolist()
        self.side, self.cached = side, cached
        self.shapes = np.array([shape_at_side(height, width, side) for height, width in self.sizes.tolist()], np.int64)
        self.starts = np.concatenate([[0], np.cumsum(self.shapes.prod(axis=1) * 3)])
        self._flat: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> np.ndarray:
        if self.cached is None:
            return self.decode(row)
        height, width = self.shapes[row]
        return self.flat[self.starts[row] : self.starts[row + 1]].reshape(height, width, 3)

    @property
    def flat(self) -> np.ndarray:
        """All cached pictures one after another, (bytes,) uint8, read from the disk where they are looked at."""
        if self._flat is None:  # opened where it is used: a loader process maps the file itself
            assert self.cached is not None
            self._flat = np.memmap(self.cached, np.uint8, "r").view(np.ndarray)
        return self._flat

    def decode(self, row: int) -> np.ndarray:
        """The picture from its file; raises FoldwiseError when that is not the file which the manifest checked."""
        file = self.home / self.paths[row]
        try:
            content = file.read_bytes()
            if fingerprint(content) == self.sha256s[row]:
                return decode_to_side(content, self.side, *self.sizes[row].tolist())
        except (FileNotFoundError, Unreadable):
            pass
        unpacked = file.is_relative_to(self.home / "images")
        anew = " (or delete it: make prepare unpacks it again)" if unpacked else ""
        raise FoldwiseError(
            f"{shown(file)} has changed since the manifest was made; put it back{anew}, or type make manifest to go on "
            "with what is there: runs made before will not fit it"
        )

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_flat": None}


def readable_rows(manifest: pd.DataFrame) -> pd.DataFrame:
    """The manifest's readable rows with ``position``, their place among the pixels of ``open_pixels``."""
    rows = manifest[manifest["width"] > 0]
    return rows.assign(position=np.arange(len(rows)))


def cache_path(paths: Paths, rows: pd.DataFrame, side: int) -> Path:
    """Where the cache of these readable rows lies: named after its side, the decoder, and the bytes of the files."""
    return paths.cache / f"side{side}-{fingerprint([side, DECODER, *rows['sha256']])[:12]}.u8"


def open_pixels(paths: Paths, rows: pd.DataFrame, side: int, stage: str) -> Pixels:
    """Pictures of readable manifest rows (path, width, height, sha256), from a cache that is built if it is missing.

    One process builds it, with all cores, while others that want the same wait for it. A file that is not the one
    of its manifest row any more is refused by name.
    """
    cached = cache_path(paths, rows, side)
    pixels = Pixels(paths.home, rows, side, cached)
    size = int(pixels.starts[-1])

    def is_whole() -> bool:
        return cached.exists() and cached.stat().st_size == size

    if is_whole():
        return pixels
    with held(paths.cache / "lock", lambda: say(stage, "waiting for another process that decodes the images")):
        if is_whole():
            return pixels
        if size > DISK_SHARE * shutil.disk_usage(paths.cache).free:
            free = f"{DISK_SHARE:.0%} of the free disk"
            say(stage, f"a pixel cache of {size / 1e9:.1f} GB would take over {free}; decoding on the fly")
            return Pixels(paths.home, rows, side, None)
        with atomic_path(cached) as temporary, temporary.open("wb") as file:
            decoded = in_threads(pixels.decode, range(len(pixels)))
            for picture in progress(decoded, len(pixels), stage, "decoding once"):
                file.write(picture.data)
    return pixels
