"""What a run is made from, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import pipeline.folds
import pipeline.train
from pipeline.records.paths import Paths
from tests.conftest import Failure, Stage


def test_folds_that_changed_after_training(split: Paths, stage: Stage, failure: Failure) -> None:
    stage("train", "--fold", "0")
    folds = split.folds.read_text()
    swapped = folds.replace(",0\n", ",9\n").replace(",1\n", ",0\n").replace(",9\n", ",1\n")
    split.folds.write_text(swapped)
    assert "folds_sha256 differs" in failure("predict", "--folds", "0")
    split.folds.write_text(folds)
    shutil.copytree(split.fold("tiny", 0), split.fold("tiny", 1))  # a fold that passes for another one
    assert "another fold" in failure("predict", "--folds", "1")


def test_a_run_made_of_something_else_is_refused_by_key(
    split: Paths, stage: Stage, failure: Failure, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stage("train", "--fold", "0")
    recipes = tmp_path / "recipes"
    shutil.copytree(Path(pipeline.train.__file__).parent / "recipes", recipes)
    monkeypatch.setattr("pipeline.records.paths.RECIPES", recipes)
    tiny = recipes / "tiny.toml"
    tiny.write_text(tiny.read_text().replace("batch_size = 16", "batch_size = 20"))
    for name, which in (("train", "--fold"), ("predict", "--folds"), ("ensemble", "--folds")):
        assert "batch_size was 16 and is now 20" in failure(name, which, "0")
