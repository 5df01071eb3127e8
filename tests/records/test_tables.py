"""CSV files are read as text; damaged tables are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

import pipeline.folds
from pipeline.pixels.cache import open_pixels, readable_rows
from pipeline.records.competition import load_competition
from pipeline.records.paths import Paths
from pipeline.records.submission import check_submission
from pipeline.records.tables import read_csv, read_folds, read_manifest, sorted_ids
from pipeline.system.errors import FoldwiseError
from pipeline.tasks.classification import Classification
from tests.mutations import outcomes


def test_a_csv_is_read_as_text(tmp_path: Path) -> None:
    path = tmp_path / "ids.csv"
    path.write_text('\ufeffid,label\n007,NA\n1e5,\n"a,b","say ""x"""\n', encoding="utf-8")
    table = read_csv(path, ["id"])
    assert list(table["id"]) == ["007", "1e5", "a,b"] and list(table["label"]) == ["NA", "", 'say "x"']
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FoldwiseError, match="not a readable CSV"):
        read_csv(path)
    path.write_bytes(b"")
    with pytest.raises(FoldwiseError, match="not a readable CSV"):
        read_csv(path)


SHAPES = Classification(["circle", "square"])


CELLS = ["", "NaN", "-1", "1e999", "9" * 30, "0.5", "inf", "größe", '"', "'", "a,b", "\0", "x" * 5000, "null", "[", "="]


def test_a_damaged_manifest(split: Paths) -> None:
    competition = load_competition(split)

    def read() -> None:
        manifest = read_manifest(split.manifest)
        rows = readable_rows(manifest)
        pixels = open_pixels(split, rows, 24, "train")
        assert all(pixels[row].any() for row in range(len(rows)))
        read_folds(split.folds, 3, manifest)
        pipeline.folds.make_folds(manifest, SHAPES, competition, split)
        test_ids = manifest.loc[manifest["split"] == "test", "image_id"]
        check_submission(test_ids, SHAPES, competition, split)

    assert outcomes(split.manifest, read)["refused"] > 200


def test_damaged_folds(split: Paths) -> None:
    manifest = read_manifest(split.manifest)

    def read() -> None:
        folds = read_folds(split.folds, 3, manifest)
        assert SHAPES.targets(folds["label"]).shape == (60, 2)
        assert set(folds["image_id"]) == set(manifest.loc[manifest["split"] == "train", "image_id"])

    assert outcomes(split.folds, read)["refused"] > 200


def test_ids_sort_as_people_expect() -> None:
    assert sorted_ids(["10", "9", "1"]) == ["1", "9", "10"]
    assert sorted_ids(["010", "9", "10"]) == ["9", "010", "10"]
    assert sorted_ids(["1e5", "00ff", "10"]) == ["00ff", "10", "1e5"]
