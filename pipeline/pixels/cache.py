"""Cache of decoded images: a flat uint8 file that all folds, epochs, recipes and stages share.

The cache only stores the results of ``decode_to_side``: the pixels are bit-identical without it. This module does not
import torch.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.pixels.decode import DECODER, Unreadable, decode_to_side, shape_at_side
from pipeline.records.paths import Paths
from pipeline.system.console import progress, say
from pipeline.system.errors import StaleError
from pipeline.system.files import atomic_path, fingerprint
from pipeline.system.locks import held
from pipeline.system.places import shown
from pipeline.system.threads import in_threads

#: Fraction of the free disk space that a cache may take; if it needs more, images are decoded on the fly.
MAX_DISK_FRACTION = 0.5


class Pixels:
    """Decoded images of the readable manifest rows, by position.

    ``pixels[3]`` is uint8 (H, W, 3) RGB, with a shorter side of at most ``side`` pixels. It is read from the flat file
    ``cached``, or decoded from its image file if ``cached`` is None.

    sizes: (N, 2) int64, height and width of the image files
    shapes: (N, 2) int64, height and width of the decoded images
    starts: (N + 1,) int64, offset in bytes of each image in the flat file
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
        """All cached images one after another, (bytes,) uint8, as a memory-mapped file."""
        if self._flat is None:  # opened on first use, so that each loader process maps the file itself
            assert self.cached is not None
            self._flat = np.memmap(self.cached, np.uint8, "r").view(np.ndarray)
        return self._flat

    def decode(self, row: int) -> np.ndarray:
        """Decodes an image from its file; raises FoldwiseError if the file does not match its manifest row."""
        file = self.home / self.paths[row]
        try:
            content = file.read_bytes()
            if fingerprint(content) == self.sha256s[row]:
                return decode_to_side(content, self.side, *self.sizes[row].tolist())
        except (FileNotFoundError, Unreadable):
            pass
        unpacked = file.is_relative_to(self.home / "images")
        advice = " (or delete it: make prepare unpacks it again)" if unpacked else ""
        raise StaleError(
            f"{shown(file)} has changed since the manifest was made; restore it{advice}, or type make manifest to "
            "continue with the present files; existing runs will not match the new manifest"
        )

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_flat": None}


def readable_rows(manifest: pd.DataFrame) -> pd.DataFrame:
    """The readable rows of the manifest, with ``position``: their index in the Pixels of ``open_pixels``."""
    rows = manifest[manifest["width"] > 0]
    return rows.assign(position=np.arange(len(rows)))


def cache_path(paths: Paths, rows: pd.DataFrame, side: int) -> Path:
    """Path of the cache of these readable rows; the name depends on the side, the decoder and the files' sha256."""
    return paths.cache / f"side{side}-{fingerprint([side, DECODER, *rows['sha256']])[:12]}.u8"


def open_pixels(paths: Paths, rows: pd.DataFrame, side: int, stage: str) -> Pixels:
    """Decoded images of readable manifest rows (path, width, height, sha256); builds their cache if it is missing.

    One process builds the cache, with all cores; other processes that need it wait. Raises FoldwiseError if a file no
    longer matches its manifest row.
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
        if size > MAX_DISK_FRACTION * shutil.disk_usage(paths.cache).free:
            free = f"{MAX_DISK_FRACTION:.0%} of the free disk space"
            say(stage, f"a pixel cache of {size / 1e9:.1f} GB would take more than {free}; decoding on the fly")
            return Pixels(paths.home, rows, side, None)
        with atomic_path(cached) as temporary, temporary.open("wb") as file:
            decoded = in_threads(pixels.decode, range(len(pixels)))
            for picture in progress(decoded, len(pixels), stage, "decoding images"):
                file.write(picture.data)
    return pixels
