"""A competition.toml that writes itself."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pandas as pd
import pytest

from pipeline.records.competition import load_competition
from pipeline.records.paths import Paths
from pipeline.records.tables import read_manifest
from pipeline.records.task import read_task
from pipeline.system.console import run_stage
from tests.conftest import Failure, Stage, run
from tests.shapes import SHAPES, Files, csv, pictures, put

KINDS = {
    "plant-pathology-2021": "multilabel", "planet-understanding-the-amazon-from-space": "multilabel",
    "ranzcr-clip-catheter-line-classification": "multilabel", "petfinder-pawpularity-score": "regression",
}  # fmt: skip
VALUES = {
    "dogs-vs-cats-redux-kernels-edition": "probability", "dog-breed-identification": "columns",
    "plant-pathology-2020": "columns", "plant-pathology-2021": "labels", "cassava-leaf-disease-classification": "class",
    "aptos2019-blindness-detection": "class", "humpback-whale-identification": "topk", "cifar-10": "class",
    "digit-recognizer": "class", "petfinder-pawpularity-score": "number", "aerial-cactus-identification": "probability",
    "state-farm-distracted-driver-detection": "columns", "leaf-classification": "columns", "ubc-ocean": "class",
}  # fmt: skip
GROUPS = {
    "siim-isic-melanoma-classification": "patient_id", "state-farm-distracted-driver-detection": "subject",
    "ranzcr-clip-catheter-line-classification": "PatientID",
}  # fmt: skip


def make_new(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """As ``make new``: prepare, and the tool."""
    run(monkeypatch, "prepare", competition=name)
    module = importlib.import_module("pipeline.tools.new")
    monkeypatch.setattr(sys, "argv", ["pipeline.tools.new", "--competition", name])
    run_stage(module.main)


def with_files(root: Path, name: str, files: Files) -> Paths:
    """A competition without a TOML, with these files in raw/."""
    put(files, root / "data" / name / "raw")
    return Paths(name)


@pytest.mark.parametrize("name", SHAPES)
def test_what_it_writes_passes_the_manifest_stage_unchanged(
    name: str, root: Path, monkeypatch: pytest.MonkeyPatch, stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    files, competition_name = SHAPES[name](), f"my-{name}"
    paths = with_files(root, competition_name, files)
    make_new(monkeypatch, competition_name)
    said = capsys.readouterr().out
    assert said.count(" -> ") >= 5 and "fill in" not in said
    text = paths.toml.read_text()
    assert all("#" in line for line in text.splitlines() if "=" in line) and max(map(len, text.splitlines())) <= 120
    stage("manifest", competition=competition_name)
    competition, manifest = load_competition(paths), read_manifest(paths.manifest)
    test = manifest[manifest["split"] == "test"]
    assert competition.submission is not None and (test["width"] > 0).all() and len(test)
    assert read_task(paths, competition).kind == KINDS.get(name, "classification")
    assert competition.train.group_column == GROUPS.get(name)
    if name in VALUES:
        assert competition.submission.value == VALUES[name]
    sample = pd.read_csv(paths.find(str(competition.submission.sample)), dtype=str)
    assert sorted(test["image_id"]) == sorted(sample.iloc[:, 0])
    assert not (manifest["label"][manifest["split"] == "train"] == "").all()


def test_headers_cannot_become_toml(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = pictures(f"train/{n}.jpg" for n in range(12))
    files["train.csv"] = csv('id,label,"other\n[folds]\nseed = 7"', ((n, "ab"[n % 2], "x") for n in range(12)))
    folders = [f"test_images_of_the_stage_number_{n}_final" for n in range(5)]
    files |= pictures(f"{folder}/{n}.jpg" for n, folder in enumerate(folders, start=20))
    files["sample_submission.csv"] = csv("id,label", ((n, "a") for n in range(20, 25)))
    paths = with_files(root, "long", files)
    make_new(monkeypatch, "long")
    competition = load_competition(paths)
    assert competition.folds.seed == 42 and competition.test is not None and competition.test.images == folders


def test_names_of_files_and_no_test_set(shapes: Paths, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes.toml.unlink()
    make_new(monkeypatch, "shapes")
    stage("manifest")
    assert read_manifest(shapes.manifest)["label"].value_counts()["circle"] == 30
    for path in [*(shapes.raw / "test").iterdir(), shapes.raw / "sample_submission.csv", shapes.toml]:
        path.unlink()
    make_new(monkeypatch, "shapes")
    assert "[test]" not in shapes.toml.read_text()
    stage("manifest")


def test_it_never_overwrites_and_needs_images(
    shapes: Paths, failure: Failure, monkeypatch: pytest.MonkeyPatch, root: object
) -> None:
    before = shapes.toml.read_text()
    with pytest.raises(SystemExit, match="exists already; to have another one written, rename it"):
        make_new(monkeypatch, "shapes")
    assert shapes.toml.read_text() == before
    empty = shapes.home.parent / "empty" / "raw"
    empty.mkdir(parents=True)
    (empty / "notes.txt").write_text("nothing")
    with pytest.raises(SystemExit, match="there is no image in data/empty/raw"):
        make_new(monkeypatch, "empty")
    assert "there is no data/empty/competition.toml; to have one written" in failure("manifest", competition="empty")
    assert "put its files into data/nowhere/raw/ and type make new" in failure("manifest", competition="nowhere")


def test_labels_that_are_nowhere_are_asked_for(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], failure: Failure
) -> None:
    paths = with_files(root, "odd", pictures(f"train/{n:03}.jpg" for n in range(9)))
    make_new(monkeypatch, "odd")
    assert "fill in pattern, or labels, in [train]" in capsys.readouterr().out
    assert "? fill in" in paths.toml.read_text()
    assert "matches none of the 9 files" in failure("manifest", competition="odd")
