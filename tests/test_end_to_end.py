"""All stages on tiny images: it learns, it repeats, it goes on after an interrupt, it says what is partial."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from pipeline.records.paths import Paths
from tests.conftest import Stage

SET = ["--set", "epochs=20"]
RUN = "tiny~epochs=20"


def run_all(stage: Stage, *settings: str, folds: tuple[int, ...] = (0, 1, 2), workers: int = 0) -> None:
    """Every stage, as make would call them."""
    for name in ("prepare", "manifest", "folds"):
        stage(name)
    for fold in folds:
        stage("train", "--fold", str(fold), "--workers", str(workers), *settings)
    chosen = ["--folds", ",".join(map(str, folds))] if len(folds) < 3 else []
    stage("predict", "--workers", str(workers), *chosen, *settings)
    for name in ("ensemble", "submit"):
        stage(name, *chosen, *settings)


def test_from_images_to_a_checked_submission(shapes: Paths, stage: Stage, root: Path) -> None:
    run_all(stage, *SET)
    csv = root / "submissions" / "shapes" / f"{RUN}.csv"
    table = pd.read_csv(csv, dtype=str)
    assert list(table.columns) == ["id", "label"]
    assert list(table["id"]) == [str(number) for number in range(1, 12)]  # 2 before 10
    right = ["square" if number % 2 else "circle" for number in range(1, 12)]
    assert (table["label"] == right).mean() > 0.8

    about = json.loads(csv.with_suffix(".json").read_text())
    oof = pd.read_csv(shapes.run(RUN) / "oof.csv")
    folds = pd.read_csv(shapes.folds)
    assert list(oof["id"]) == list(folds["image_id"]) and list(oof["fold"]) == list(folds["fold"])
    right = oof[["p_circle", "p_square"]].idxmax(axis=1).str.removeprefix("p_") == oof["target"]
    assert about["score"]["cv_score"] == pytest.approx(right.mean())
    assert right.mean() > 0.8
    low, high = about["score"]["interval_95"]
    assert low <= about["score"]["expected_score"] <= high
    (of_run,) = about["made_of"].values()
    assert of_run["folds_sha256"] == about["score"]["folds_sha256"]
    for picture in ("curves.png", "augmented.png"):
        assert (shapes.fold(RUN, 0) / picture).stat().st_size > 5000
    assert shapes.contact_sheet.stat().st_size > 5000
    assert not (shapes.fold(RUN, 0) / "checkpoints").exists()

    before = csv.read_bytes()
    run_all(stage, *SET)  # finished folds are left alone, and nothing changes
    assert csv.read_bytes() == before
    assert not list(csv.parent.glob("*.????????.csv"))


def test_the_same_seed_gives_the_same_bytes_for_any_number_of_workers(shapes: Paths, stage: Stage, root: Path) -> None:
    csv = root / "submissions" / "shapes" / "tiny~folds=1.csv"
    written = []
    for workers in (0, 2):
        run_all(stage, folds=(1,), workers=workers)
        written.append((csv.read_bytes(), (shapes.run("tiny") / "test~folds=1.csv").read_bytes()))
        (shapes.fold("tiny", 1) / "trained.json").unlink()
        (shapes.fold("tiny", 1) / "test.npz").unlink()
    assert written[0] == written[1]


def test_some_folds_make_a_partial_submission_that_says_so(
    shapes: Paths, stage: Stage, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_all(stage, folds=(2,))
    assert "PARTIAL: 1 of 3 folds" in capsys.readouterr().out
    about = json.loads((root / "submissions" / "shapes" / "tiny~folds=2.json").read_text())
    assert about["score"]["partial"] and about["score"]["folds"] == [2]
    assert len(pd.read_csv(shapes.run("tiny") / "oof~folds=2.csv")) == 20


def test_a_dry_run_goes_through_every_stage_apart_from_real_runs(shapes: Paths, stage: Stage, root: Path) -> None:
    stage("prepare")
    for name in ("manifest", "folds"):
        stage(name, "--dry-run")
    for fold in range(3):
        stage("train", "--fold", str(fold), "--dry-run")
    for name in ("predict", "ensemble", "submit"):
        stage(name, "--dry-run")
    assert (root / "submissions" / "shapes" / "dry" / "tiny.csv").exists()
    assert not shapes.manifest.exists() and not shapes.runs.exists()


def test_a_competition_without_test_images_ends_with_its_score(
    shapes: Paths, stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    text = shapes.toml.read_text()
    start, end = text.index("[test]"), text.index("[folds]")
    shapes.toml.write_text(text[:start] + text[end : text.index("[submission]")])
    run_all(stage)
    said = capsys.readouterr().out
    assert "no test images" in said and "out-of-fold accuracy" in said
