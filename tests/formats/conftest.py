"""A competition to put files of arrays into."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.records.paths import Paths
from pipeline.system.places import CHECKOUT


@pytest.fixture
def place(root: Path) -> Callable[[str], Paths]:
    """Sets up a shipped competition with an empty raw/."""

    def set_up(name: str) -> Paths:
        home = root / "data" / name
        (home / "raw").mkdir(parents=True)
        shutil.copy(CHECKOUT / "data" / name / "competition.toml", home / "competition.toml")
        return Paths(name)

    return set_up
