"""Remembered hashes."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.records.paths import Paths
from pipeline.system.index import NAME, Index
from tests.conftest import draw_shapes


def test_an_edit_in_the_same_tick_of_the_clock_is_seen(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a file system whose clock ticks once a second: same size, same inode, same times."""
    draw_shapes(root / "data" / "shapes")
    paths, file, stat = Paths("shapes"), root / "data" / "shapes" / "labels.csv", os.stat

    def coarse(path: str, **options: bool) -> SimpleNamespace:
        found = stat(path, **options)
        times = {name: getattr(found, name) // 10**9 * 10**9 for name in ("st_mtime_ns", "st_ctime_ns")}
        others = {name: getattr(found, name) for name in ("st_size", "st_mode", "st_ino", "st_mtime", "st_dev")}
        return SimpleNamespace(**others, **times)

    monkeypatch.setattr(os, "stat", coarse)
    seen_alike = 0
    for turn in range(100, 150):
        file.write_text(f"{turn}{turn + 1}")
        index = Index(paths.home)
        before, first = index.signature(file), index.sha256(file)
        index.save()
        file.write_text(f"{turn + 1}{turn}")
        seen_alike += index.signature(file) == before
        assert Index(paths.home).sha256(file) != first
    assert seen_alike > 25


def test_a_hash_is_remembered_and_a_lost_index_costs_only_time(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_shapes(root / "data" / "shapes")
    paths, file = Paths("shapes"), root / "data" / "shapes" / "raw" / "train" / "circle_0.png"
    os.utime(file, (1, 1))
    time.sleep(0.02)  # the file is older than the index
    index = Index(paths.home)
    expected = index.sha256(file)
    index.save()
    monkeypatch.setattr("pipeline.system.index.fingerprint", lambda path: "hashed again")
    assert Index(paths.home).sha256(file) == expected
    for damage in (b"", b"{", b'{"began": "x", "files": {}}', b'{"began": 1, "files": {"a": [1]}}', b"\xff"):
        (paths.home / NAME).write_bytes(damage)
        assert Index(paths.home).sha256(file) == "hashed again"
    assert Index(paths.home).sha256(paths.raw) is None and Index(paths.home).sha256(paths.raw / "nothing") is None
