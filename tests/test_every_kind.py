"""The promises of classification hold for every kind of task: resume, workers, ranks, cache, priors, partial runs."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.records.competition import load_competition
from pipeline.records.paths import Paths
from pipeline.records.predictions import Predictions
from pipeline.records.task import read_task
from pipeline.system import places
from pipeline.system.files import read_record
from tests.conftest import Failure, Stage, run
from tests.kinds import KINDS, draw_kind
from tests.learner.test_ranks import as_stage, run_ranks
from tests.runs import drawn_run
from tests.trainings import FOLD_0, SETTINGS, Trained, forget, stopped_at_once, trained

#: With Mixup, a moving average of the weights, and two views at test time.
SET = ["--set", *SETTINGS]


@pytest.fixture(scope="session", params=KINDS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Trained]:
    """Every stage of a kind, with one test image that cannot be read; and what fold 0 ended with."""
    base = tmp_path_factory.mktemp(request.param)
    home = base / "data" / "shapes"
    draw_kind(home, request.param)
    (home / "raw" / "test" / "4.png").write_bytes(b"<html>not found</html>")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(places, "ROOT", base)
        for name in ("prepare", "manifest", "folds"):
            run(patched, name)
        for fold in ("0", "1", "2"):
            run(patched, "train", "--fold", fold, "--threads", "1", *SET)
        for name in ("predict", "ensemble", "submit"):
            run(patched, name, *SET)
        return base, trained(Paths("shapes"))


@pytest.fixture
def kind(made: tuple[Path, Trained], root: Path) -> tuple[Paths, Trained]:
    shutil.copytree(made[0], root, dirs_exist_ok=True)
    return Paths("shapes"), made[1]


def load(paths: Paths, name: str) -> Predictions:
    path = next(paths.runs.glob(f"*/{name}.npz"))
    with np.load(path) as file:
        return Predictions(file["image_ids"], file["target_names"], file["predictions"])


def test_every_row_is_predicted_once_and_in_range(kind: tuple[Paths, Trained]) -> None:
    paths, _ = kind
    task, folds = read_task(paths, load_competition(paths)), pd.read_csv(paths.folds, dtype=str)
    oof, test = load(paths, "oof"), load(paths, "test")
    assert list(oof.image_ids) == list(folds["image_id"]) and list(oof.target_names) == task.target_names
    targets = task.targets(folds["label"])
    assert oof.predictions.shape == targets.shape and np.isfinite(oof.predictions).all()
    assert (oof.predictions >= targets.min(axis=0)).all() and (oof.predictions <= targets.max(axis=0)).all()
    score = json.loads(next(paths.runs.glob("*/score.json")).read_text())
    low, high = score["interval_95"]
    assert low <= score["expected_score"] <= high and len(score["fold_scores"]) == 3
    csv = next((places.ROOT / "submissions" / "shapes").glob("*.csv")).read_text().splitlines()
    assert csv[0] == "id,answer" and [line.partition(",")[0] for line in csv[1:]] == [str(n) for n in range(1, 12)]
    assert len(test.image_ids) == 11
    about = json.loads(next((places.ROOT / "submissions" / "shapes").glob("*.json")).read_text())
    assert np.isfinite(about["test_score"])


def test_an_unreadable_test_image_gets_the_prior_of_its_kind(kind: tuple[Paths, Trained]) -> None:
    paths, _ = kind
    task = read_task(paths, load_competition(paths))
    test = load(paths, "test")
    expected = task.targets(pd.read_csv(paths.folds, dtype=str)["label"]).mean(axis=0)
    np.testing.assert_allclose(test.predictions[list(test.image_ids).index("4")], expected, rtol=1e-5)
    assert task.prior_words in paths.problems.read_text()


def test_resume_and_workers_give_the_same_bits(kind: tuple[Paths, Trained], stage: Stage) -> None:
    """Interrupted after each step, begun without loader processes and continued with two, without a cache of pixels."""
    paths, expected = kind
    forget(paths)
    shutil.rmtree(paths.cache)
    with stopped_at_once():
        stage("train", *FOLD_0, *SETTINGS)
    stage("train", *FOLD_0, *SETTINGS, "--workers", "2")
    assert trained(paths) == expected


def test_two_ranks_learn_what_one_process_learns(kind: tuple[Paths, Trained], stage: Stage) -> None:
    paths, _ = kind
    forget(paths)
    settings = ["model=lenet", "model_args={}", "batch_size=13", "epochs=1"]
    columns = ["train_loss", "train_score", "val_loss", "val_score"]
    stage("train", *FOLD_0, *settings)
    folder = next(paths.runs.glob("*/fold0"))
    alone = pd.read_csv(folder / "log.csv")[columns]
    forget(paths)
    assert run_ranks(places.ROOT, 2, as_stage, "train", *FOLD_0, *settings) == [0, 0]
    assert np.allclose(pd.read_csv(folder / "log.csv")[columns], alone, rtol=1e-4, atol=1e-5)


def test_runs_of_each_kind_are_blended_compared_and_listed(
    kind: tuple[Paths, Trained], stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    paths, _ = kind
    for seed in (1, 2, 3):
        drawn_run(0.8, seed, f"epochs={seed + 5}")
    names = [f"tiny~epochs={seed + 5}" for seed in (1, 2, 3)]
    stage("tools.blend", "--runs", *names)
    blended = "+".join(names)
    stage("submit", "--blend", blended)
    csv = pd.read_csv(paths.submission(blended), dtype=str)
    assert list(csv["id"]) == [str(number) for number in range(1, 12)] and not csv["answer"].isna().any()
    score = read_record(paths.blend(blended).record)
    assert len(score["scores_alone"]) == 3 and np.isfinite([score["cv_score"], score["expected_score"]]).all()
    capsys.readouterr()
    stage("tools.compare", "--first", names[0], "--second", names[1])
    assert re.search("not to be told from noise|real gain", capsys.readouterr().out)
    stage("tools.runs")
    listed = capsys.readouterr().out
    assert all(name in listed for name in (*names, "blend"))


@pytest.mark.usefixtures("kind")
def test_some_folds_and_a_dry_run(stage: Stage, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("ensemble", "submit"):
        stage(name, "--folds", "1", *SET)
    assert "PARTIAL: 1 of 3 folds" in capsys.readouterr().out
    for name in ("manifest", "folds"):
        stage(name, "--dry-run")
    for name in ("train", "predict", "ensemble", "submit"):
        stage(name, "--folds" if name != "train" else "--fold", "0", "--dry-run", *SET)
    assert list((root / "submissions" / "shapes" / "dry").glob("*.csv"))


@pytest.mark.parametrize("made", ["ordinal"], indirect=True)
def test_another_kind_of_task_makes_a_run_invalid(kind: tuple[Paths, Trained], stage: Stage, failure: Failure) -> None:
    paths, _ = kind
    paths.toml.write_text(paths.toml.read_text().replace('task   = "ordinal"', 'task = "classification"'))
    stage("manifest")
    assert "(task was 'ordinal' and is now 'classification')" in failure("predict", *SET)
