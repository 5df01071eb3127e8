"""The predict stage."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from pipeline.records.paths import Paths
from tests.conftest import Stage


def test_an_unreadable_test_image_keeps_its_row(shapes: Paths, stage: Stage, root: Path) -> None:
    """Its prediction is the share of each class."""
    (shapes.raw / "test" / "4.png").write_bytes(b"<html>not found</html>")
    (shapes.raw / "train" / "circle_0.png").unlink()  # 29 circles, 30 squares
    for name, *options in (["prepare"], ["manifest"], ["folds"], ["train", "--fold", "0"]):
        stage(name, *options)
    for name in ("predict", "ensemble", "submit"):
        stage(name, "--folds", "0")
    assert list(pd.read_csv(shapes.problems)["problem"]) == ["unreadable"]
    row = pd.read_csv(shapes.run("tiny") / "test~folds=0.csv", dtype={"id": str}).set_index("id").loc["4"]
    assert row["p_circle"] == pytest.approx(29 / 59) and row["p_square"] == pytest.approx(30 / 59)
    assert len(pd.read_csv(root / "submissions" / "shapes" / "tiny~folds=0.csv")) == 11
