"""The folds of a run as one prediction."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pipeline import folds
from pipeline.records.job import make_job
from pipeline.records.paths import Paths
from pipeline.system.files import read_record
from tests.conftest import Failure, Stage


def test_stages_out_of_order_say_what_is_missing(shapes: Paths, stage: Stage, failure: Failure) -> None:
    assert "there is no data/shapes/manifest.csv" in failure("folds")
    for name in ("prepare", "manifest", "folds"):
        stage(name)
    assert "type: make train COMPETITION=shapes FOLDS=1" in failure("predict", "--folds", "1")
    assert "make predict COMPETITION=shapes" in failure("ensemble")
    assert "make ensemble COMPETITION=shapes" in failure("submit")


def test_a_train_score_of_another_metric_is_not_shown(
    split: Paths, stage: Stage, edit: Callable[[str, str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """trained.json has the train score of the metric that competition.toml named at that time."""
    for name in ("train", "predict", "ensemble"):
        stage(name, *(["--fold", "0"] if name == "train" else ["--folds", "0"]), "--set", "epochs=1")
    shown = capsys.readouterr().out
    assert "on images that the models were trained on" in shown
    edit('metric  = "accuracy"', 'metric  = "log_loss"')
    stage("ensemble", "--folds", "0", "--set", "epochs=1")
    shown = capsys.readouterr().out
    assert "out-of-fold log_loss" in shown and "trained on" not in shown and "out-of-fold accuracy" in shown
    stage("submit", "--folds", "0", "--set", "epochs=1")
    job = make_job("shapes", settings=["epochs=1"], folds="0")
    assert read_record(job.predictions.record)["train_score"] is None


def test_the_next_command_names_the_folds_once(split: Paths, stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    folds.run(make_job("shapes", folds="0"))
    assert capsys.readouterr().out.strip().endswith("next: make train COMPETITION=shapes FOLDS=0")
    folds.run(make_job("shapes"))
    assert capsys.readouterr().out.strip().endswith("next: make train COMPETITION=shapes FOLD=0")
