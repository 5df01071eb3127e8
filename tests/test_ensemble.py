"""The folds of a run as one prediction."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.metrics import accuracy_score

from pipeline import folds
from pipeline.driver.options import read_options
from pipeline.driver.plan import make_plan
from pipeline.driver.steps import steps
from pipeline.records.job import make_job
from pipeline.records.paths import Paths
from pipeline.records.tables import read_folds, read_manifest
from pipeline.system.files import read_json, read_record
from pipeline.system.index import Index
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


def test_seeds_are_averaged_and_a_training_on_all_rows_has_the_score_of_its_folds(
    split: Paths, stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ["--set", "epochs=2"]
    stage("train", "--fold", "all", *settings)
    stage("predict", "--folds", "all", *settings)
    stage("ensemble", "--folds", "all", *settings)
    said = capsys.readouterr().out
    assert "no row is left to score it; for a score, type: make ensemble COMPETITION=shapes" in said
    stage("submit", "--folds", "all", *settings)
    assert "nothing is known of the score" in capsys.readouterr().out
    for seed in ("0", "1"):
        for fold in "012":
            stage("train", "--fold", fold, "--seed", seed, *settings)
        stage("predict", "--seed", seed, *settings)
    for name in ("ensemble", "submit"):
        stage(name, "--seeds", "2", *settings)

    run = split.run("tiny~epochs=2")
    score = read_record(run / "score~seeds=2.json")
    labels = read_folds(split.folds, 3, read_manifest(split.manifest)).set_index("image_id")["label"]
    by_seed, tests = [], []
    for folder in (run, run / "seed1"):
        of_folds = [np.load(folder / f"fold{fold}" / "oof.npz") for fold in range(3)]
        by_id = {name: row for one in of_folds for name, row in zip(one["image_ids"], one["predictions"], strict=True)}
        by_seed.append(np.array([by_id[name] for name in labels.index]))
        tests += [np.load(folder / f"fold{fold}" / "test.npz")["predictions"] for fold in range(3)]
    names = np.array(["circle", "square"])
    accuracies = [accuracy_score(labels, names[each.argmax(1)]) for each in (*by_seed, np.mean(by_seed, axis=0))]
    assert [*score["seed_scores"], score["cv_score"]] == pytest.approx(accuracies)
    assert not np.array_equal(by_seed[0], by_seed[1])
    averaged = np.load(run / "test~seeds=2.npz")["predictions"]
    np.testing.assert_allclose(averaged, np.mean(tests, axis=0), atol=1e-6)
    assert (split.submissions / "tiny~epochs=2~seeds=2.csv").exists()
    assert read_json(run / "seed1" / "run.json", "made_of")["made_of"]["seed"] == 1

    # The score of the folds, with one seed, speaks for the training on all rows. It is made when it is needed.
    assert not (run / "score.json").exists()
    options = read_options(["COMPETITION=shapes", "FOLD=all", "SET=epochs=2"], {})
    stale = [step.stage for step in steps(make_plan(options), "submit", Index(split.home))]
    assert stale == []
    (run / "all" / "score.json").unlink()
    for name in ("ensemble", "submit"):
        stage(name, "--folds", "all", *settings)
    alone, twin = read_record(run / "all" / "score.json"), read_record(run / "score.json")
    assert alone["twin"] == "tiny~epochs=2" and alone["cv_score"] == alone["expected_score"] == twin["cv_score"]
    assert (split.submissions / "tiny~epochs=2~all.csv").exists() and not (run / "all" / "oof.npz").exists()
    assert "val_loss" not in (run / "all" / "log.csv").read_text()
    of_all = np.load(run / "all" / "test.npz")["predictions"]
    assert not np.array_equal(of_all, np.load(run / "test.npz")["predictions"])
    assert [*steps(make_plan(options), "submit", Index(split.home))] == []
