"""All images of a table are inspected; those that cannot be read stay in it, without a size."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from PIL import Image

from pipeline.pixels.inspection import with_inspection
from pipeline.system.files import fingerprint


def test_sizes_hashes_and_findings(tmp_path: Path) -> None:
    Image.new("RGB", (7, 5)).save(tmp_path / "a.png")
    Image.new("RGB", (9, 8)).save(tmp_path / "b.jpg", "PNG")
    (tmp_path / "c.png").write_bytes((tmp_path / "a.png").read_bytes()[:40])
    hashes: dict[str, str] = {}
    names = pd.DataFrame({"name": ["b.jpg", "c.png", "", "a.png"]})
    table, problems = with_inspection(names, tmp_path, "checking", hashes)
    assert list(zip(table["width"], table["height"], strict=True)) == [(9, 8), (0, 0), (0, 0), (7, 5)]
    expected = [fingerprint(tmp_path / "b.jpg"), "", "", fingerprint(tmp_path / "a.png")]
    assert list(table["sha256"]) == expected
    assert hashes == {str(tmp_path / "b.jpg"): expected[0], str(tmp_path / "a.png"): expected[3]}
    assert [(problem.path, problem.problem) for problem in problems] == [
        ("b.jpg", "wrong type for its extension"),
        ("c.png", "unreadable"),
    ]
