"""What is up to date, and what an edit leads to."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import pipeline.train
from pipeline.driver.options import Options
from pipeline.driver.plan import make_plan
from pipeline.driver.steps import steps
from pipeline.records.names import run_name
from pipeline.records.paths import Paths
from pipeline.records.up_to_date import Run, predict_files
from pipeline.system import places
from pipeline.system.files import read_json, read_record, write_json, write_record
from pipeline.system.index import NAME, Index
from tests.conftest import Stage, draw_shape, draw_shapes, run, write_image

SETTINGS = ["epochs=1"]


CHEAP = ("prepare", "manifest", "folds")


def would_run(verb: str = "submit", competition: str = "shapes", **options: bool) -> dict[str, str]:
    """What a verb would run, and why."""
    plan = make_plan(Options(competition, settings=SETTINGS, **options))  # type: ignore[arg-type]
    index = Index(plan.paths.home)
    found = {step.stage: step.reason for step in steps(plan, verb, index)}
    index.save()
    return found


def run_what_follows(stage: Stage, verb: str = "submit") -> list[str]:
    """Runs the stages that would run, as the driver does: each only if what it reads has really changed."""
    ran = []
    for name in ("prepare", "manifest", "folds", "train", "predict", "ensemble", "submit"):
        todo = would_run(verb)
        if not todo.get(name, "after").startswith("after") and not todo[name].endswith("refused"):
            of_run = [] if name in CHEAP else ["--set", *SETTINGS]
            for more in [["--fold", str(fold)] for fold in range(3)] if name == "train" else [[]]:
                stage(name, *more, *of_run)
            ran.append(name)
        if name == verb:
            break
    return ran


@pytest.fixture(scope="session")
def submitted_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shapes up to the CSV, made once for all tests."""
    base = tmp_path_factory.mktemp("submitted")
    draw_shapes(base / "data" / "shapes")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(places, "ROOT", base)
        patched.chdir(base)
        run_what_follows(lambda name, *arguments: run(patched, name, *arguments))
    return base


@pytest.fixture
def submitted(root: Path, submitted_once: Path) -> Paths:
    """The shapes up to the CSV, in a copy: other times and inodes, the same content."""
    shutil.copytree(submitted_once, root, dirs_exist_ok=True)
    return Paths("shapes")


RUN = "data/shapes/runs/tiny~epochs=1"


CSV = "submissions/shapes/tiny~epochs=1.csv"


def test_only_new_times_run_nothing(submitted: Paths, root: Path) -> None:
    assert would_run() == {}
    for path in root.rglob("*"):
        os.utime(path)
    assert would_run() == {}
    for path in root.rglob("*.json"):
        os.utime(path, (0, 0))
    assert would_run() == {}


def flip_a_bit(path: Path) -> None:
    """An edit that keeps size and time."""
    before, content = path.stat(), bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize(
    ("name", "edit", "first", "reason"),
    [
        ("data/shapes/raw/train/circle_2.png", flip_a_bit, "manifest", "circle_2.png changed"),
        ("data/shapes/raw/test/3.png", Path.unlink, "manifest", "raw/test/3.png was removed"),
        ("data/shapes/raw/train/circle_99.png", Path.touch, "manifest", "circle_99.png is new"),
        ("data/shapes/raw/sample_submission.csv", flip_a_bit, "manifest", "sample_submission.csv changed"),
        ("data/shapes/manifest.csv", flip_a_bit, "manifest", "data/shapes/manifest.csv changed"),
        ("data/shapes/folds.csv", flip_a_bit, "folds", "data/shapes/folds.csv changed"),
        (f"{RUN}/fold1/weights.safetensors", flip_a_bit, "predict", "fold1/weights.safetensors changed"),
        (f"{RUN}/fold1/oof.npz", flip_a_bit, "predict", "fold1/oof.npz changed"),
        (f"{RUN}/test.csv", flip_a_bit, "ensemble", "test.csv changed"),
        (CSV, flip_a_bit, "submit", f"{CSV} changed"),
        ("data/shapes/prepared.json", Path.unlink, "prepare", "not done yet"),
        ("data/shapes/manifest.csv", Path.unlink, "manifest", "there is no data/shapes/manifest.csv"),
        ("data/shapes/folds.csv", Path.unlink, "folds", "there is no data/shapes/folds.csv"),
        (f"{RUN}/fold2/predicted.json", Path.unlink, "predict", f"fold 2: there is no {RUN}/fold2/predicted.json"),
        (f"{RUN}/score.json", Path.unlink, "ensemble", f"there is no {RUN}/score.json"),
        (CSV, Path.unlink, "submit", f"there is no {CSV}"),
        (CSV.replace(".csv", ".json"), lambda path: path.write_text("{"), "submit", "is damaged"),
    ],
)
def test_an_edit_is_named_with_the_first_stage_that_follows(
    submitted: Paths, root: Path, name: str, edit: Callable[[Path], object], first: str, reason: str
) -> None:
    edit(root / name)
    found = would_run()
    assert next(iter(found)) == first and reason in found[first]
    assert "train" not in found  # a trained fold is never trained again by accident


def test_a_done_file_that_is_deleted_is_made_again(submitted: Paths, root: Path, stage: Stage) -> None:
    csv = root / CSV
    before = csv.read_bytes()
    weights = {path: path.stat().st_mtime_ns for path in root.rglob("weights.safetensors")}
    for name, again in (
        ("data/shapes/prepared.json", ["prepare"]),
        ("data/shapes/manifest.csv", ["manifest"]),
        ("data/shapes/folds.csv", ["folds"]),
        (f"{RUN}/fold2/predicted.json", ["predict"]),
        (f"{RUN}/fold2/test.npz", ["predict"]),
        (f"{RUN}/score.json", ["ensemble"]),
        (CSV, ["submit"]),
    ):
        (root / name).unlink()
        assert run_what_follows(stage)[:1] == again
        assert (root / name).exists() and csv.read_bytes() == before
        assert would_run() == {}
    assert weights == {path: path.stat().st_mtime_ns for path in root.rglob("weights.safetensors")}


def test_new_weights_mean_new_predictions_a_new_ensemble_and_a_new_csv(
    submitted: Paths, root: Path, stage: Stage, failure: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    probs = (submitted.run("tiny~epochs=1") / "test.csv").read_bytes()
    shutil.rmtree(submitted.fold("tiny~epochs=1", 1))
    assert would_run()["train"] == "fold 1 is not trained" and would_run()["predict"] == "fold 1: after train"
    monkeypatch.setattr(pipeline.train, "seed_torch", lambda *key: torch.manual_seed(7))  # other weights
    kept = submitted.fold("tiny~epochs=1", 1)
    shutil.copytree(submitted.fold("tiny~epochs=1", 0), kept)
    record = (kept / "predicted.json").read_bytes()
    shutil.rmtree(kept)
    stage("train", "--fold", "1", "--set", *SETTINGS)
    for name in ("oof.npz", "test.npz"):  # predictions that another fold's weights made
        shutil.copy(submitted.fold("tiny~epochs=1", 0) / name, kept)
    (kept / "predicted.json").write_bytes(record)
    said = failure("ensemble", "--set", *SETTINGS)
    assert "fold 1 of tiny~epochs=1 was predicted with other weights than it has now; type: make predict" in said
    assert run_what_follows(stage) == ["predict", "ensemble", "submit"]
    assert (submitted.run("tiny~epochs=1") / "test.csv").read_bytes() != probs
    assert would_run() == {}


def test_settings_that_share_a_name_are_not_taken_for_each_other(submitted: Paths, failure: Callable[..., str]) -> None:
    """Not every letter suits a file's name: "/" and "-" look alike there."""
    assert run_name("tiny", ["model=a/b"]) == run_name("tiny", ["model=a-b"])
    one, other = (Run("same", "tiny", [f"model=a{letter}b"]) for letter in "/-")
    folder = submitted.fold("tiny~epochs=1", 0)
    shutil.copytree(folder.parent, submitted.run("same"))
    target = predict_files(submitted, one, 0)
    write_json(target.record, target.new_record(target.hash_inputs(), [target.record.with_name("oof.npz")]))
    assert not target.reason_to_run(Index(submitted.home))
    assert predict_files(submitted, other, 0).reason_to_run(Index(submitted.home)) == "SET changed"


def test_edited_folds_are_made_again_as_the_trained_folds_know_them(submitted: Paths, stage: Stage) -> None:
    before = submitted.folds.read_bytes()
    flip_a_bit(submitted.folds)
    assert run_what_follows(stage) == ["folds"] and submitted.folds.read_bytes() == before


@pytest.mark.parametrize(
    "text", ['{"facts":[],"read":[],"made":[]}', '{"read":5,"made":null,"facts":{}}', "[1]", "5", ""]
)
def test_a_record_of_another_shape_is_made_again(submitted: Paths, stage: Stage, text: str) -> None:
    for record in (submitted.prepared, submitted.manifest_record, submitted.folds_record):
        record.write_text(text)
    (submitted.home / NAME).write_text('{"began":Infinity,"files":{}}')
    assert run_what_follows(stage) == ["prepare", "manifest", "folds"] and would_run() == {}


def test_a_pipe_or_a_folder_in_the_place_of_a_record_does_not_hang(submitted: Paths, root: Path) -> None:
    for name in ("prepared.json", "manifest.json", "folds.json", ".index.json"):
        (submitted.home / name).unlink()
        os.mkfifo(submitted.home / name)
    assert "is damaged" in would_run()["prepare"]
    (root / CSV).unlink()
    (root / CSV).mkdir()
    assert would_run()


LABELLED = """
title = "Labels and folds in CSV files"
recipe = "tiny"
[train]
images = "train"
labels = "train.csv"
[folds]
n = 2
file = "mine.csv"
"""


@pytest.fixture
def labelled(root: Path, stage: Stage) -> Paths:
    """20 images with a label CSV and folds of the user's own, up to folds.csv."""
    home = root / "data" / "shapes"
    for number in range(20):
        write_image(home / "raw" / "train" / f"{number}.png", draw_shape("square", np.random.default_rng(number)))
    rows = "".join(f"{number},{'ab'[number % 2]}\n" for number in range(20))
    (home / "train.csv").write_text("id,label\n" + rows)
    rows = "".join(f"{number},{number // 2 % 2}\n" for number in range(20))
    (home / "mine.csv").write_text("image_id,fold\n" + rows)
    (home / "competition.toml").write_text(LABELLED)
    for name in CHEAP:
        stage(name)
    assert would_run("folds") == {}
    return Paths("shapes")


def test_an_edited_label_or_fold_of_the_users_is_seen_at_once(labelled: Paths, stage: Stage) -> None:
    """Without a pause, and at the same size."""
    labels, mine = labelled.home / "train.csv", labelled.home / "mine.csv"
    labels.write_text(labels.read_text().replace("\n3,b", "\n3,a"))
    assert would_run("folds") == {"manifest": "data/shapes/train.csv changed", "folds": "after manifest"}
    assert run_what_follows(stage, "folds") == ["manifest", "folds"]
    assert "\n3,a,,1\n" in labelled.folds.read_text()
    mine.write_text(mine.read_text().replace("\n0,0", "\n0,1").replace("\n2,1", "\n2,0"))
    assert would_run("folds") == {"folds": "data/shapes/mine.csv changed"}
    assert run_what_follows(stage, "folds") == ["folds"]
    assert "\n0,a,,1\n" in labelled.folds.read_text()
    labelled.toml.write_text(LABELLED.replace('title = "', 'title = "Other '))
    assert would_run("folds") == {}  # no stage up to there reads the title
    labelled.toml.write_text(LABELLED.replace('file = "mine.csv"', "seed = 3"))
    assert would_run("folds") == {"folds": "'folds' in competition.toml changed"}


def test_what_the_version_before_made_is_adopted(submitted: Paths, root: Path, stage: Stage) -> None:
    """Its records tell less: everything but the training is checked or made again, once."""
    new = ("facts", "read", "made", "weights_sha256")
    write_json(submitted.prepared, {"builtin": None, "raw": [["test", 4096, 1], ["train", 4096, 1]]})
    submitted.manifest_record.unlink()
    submitted.folds_record.unlink()
    for record in [*root.glob(f"{RUN}/fold*/predicted.json"), *root.glob(f"{RUN}/score.json")]:
        write_record(record, {key: value for key, value in read_record(record).items() if key not in new})
    about = root / CSV.replace(".csv", ".json")
    write_json(about, {key: value for key, value in read_json(about).items() if key not in new})
    (submitted.home / NAME).unlink()

    csv, folds = (root / CSV).read_bytes(), submitted.folds.read_bytes()
    weights = {path: path.stat().st_mtime_ns for path in root.rglob("weights.safetensors")}
    assert "train" not in would_run()
    assert run_what_follows(stage) == ["prepare", "manifest", "folds", "predict", "ensemble", "submit"]
    assert ((root / CSV).read_bytes(), submitted.folds.read_bytes()) == (csv, folds)
    assert weights == {path: path.stat().st_mtime_ns for path in root.rglob("weights.safetensors")}
    assert would_run() == {}
