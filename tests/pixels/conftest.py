"""Images of the shapes, and of the shared data."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline.pixels.cache import readable_rows
from pipeline.records.paths import Paths
from pipeline.records.tables import read_manifest
from tests.conftest import Stage, write_image

FORMATS = {".png": "PNG", ".gif": "GIF", ".webp": "WEBP", ".bmp": "BMP", ".tif": "TIFF", ".jpg": "JPEG", ".ppm": "PPM"}


@pytest.fixture
def rows(shapes: Paths, stage: Stage) -> pd.DataFrame:
    """Readable rows of pictures of different sizes."""
    rng = np.random.default_rng(0)
    for number in range(1, 12):
        size = (int(rng.integers(9, 70)), int(rng.integers(9, 70)), 3)
        write_image(shapes.raw / "test" / f"{number}.png", rng.integers(0, 255, size, dtype=np.uint8))
    stage("manifest")
    return readable_rows(read_manifest(shapes.manifest))


@pytest.fixture
def originals(shared_data: Path) -> list[tuple[str, bytes]]:
    """Real photographs, as they are and saved in other formats: (extension, content)."""
    found = []
    with zipfile.ZipFile(shared_data / "dogs-vs-cats" / "train.zip") as archive:
        names = [name for name in archive.namelist() if name.endswith(".jpg")][::100]
        for name in names:
            found.append((".jpg", archive.read(name)))
            small = Image.open(io.BytesIO(found[-1][1])).convert("RGB").resize((97, 61))
            for suffix, kind in FORMATS.items():
                buffer = io.BytesIO()
                small.save(buffer, kind, **({"progressive": True} if kind == "JPEG" else {}))
                found.append((suffix, buffer.getvalue()))
    return found
