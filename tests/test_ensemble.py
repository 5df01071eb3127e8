"""The folds of a run as one prediction."""

from __future__ import annotations

from pipeline.records.paths import Paths
from tests.conftest import Failure, Stage


def test_stages_out_of_order_say_what_is_missing(shapes: Paths, stage: Stage, failure: Failure) -> None:
    assert "there is no data/shapes/manifest.csv" in failure("folds")
    for name in ("prepare", "manifest", "folds"):
        stage(name)
    assert "type: make train COMPETITION=shapes FOLDS=1" in failure("predict", "--folds", "1")
    assert "make predict COMPETITION=shapes" in failure("ensemble")
    assert "make ensemble COMPETITION=shapes" in failure("submit")
