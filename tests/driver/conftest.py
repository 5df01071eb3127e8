"""A folder that looks like a fresh checkout."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.system import places
from tests.conftest import draw_shapes
from tests.driver.checkouts import new_checkout


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Path]:
    """The Makefile and the code, with the digits' facts and nothing made yet, in a folder with a space in its name."""
    folder = new_checkout(tmp_path / "my checkout")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(places, "ROOT", folder)
        patched.chdir(folder)
        yield folder


@pytest.fixture
def drawn(checkout: Path) -> Path:
    """A checkout with the 71 images of the shapes in data/shapes/raw; its folder."""
    draw_shapes(checkout / "data" / "shapes")
    return checkout / "data" / "shapes"
