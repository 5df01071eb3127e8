"""Another test folder, predicted by a finished run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pipeline.records.job import make_job
from pipeline.records.paths import Paths
from pipeline.system.errors import InputError
from pipeline.tools.hidden import table_of
from tests.conftest import Edit, Failure, Stage

SET = ["--set", "epochs=4"]
NAME = "tiny~epochs=4"


@pytest.fixture
def finished(split: Paths, stage: Stage) -> Paths:
    """A run of two folds, up to its submission."""
    for fold in ("0", "2"):
        stage("train", "--fold", fold, *SET)
    for name in ("predict", "ensemble", "submit"):
        stage(name, "--folds", "0,2", *SET)
    return split


def content_of(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_ids_without_a_csv_follow_from_the_names_as_in_the_manifest(
    split: Paths, stage: Stage, tmp_path: Path, edit: Edit
) -> None:
    edit("pattern = '^(?P<id>\\d+)\\.png$'", 'ids = "sample_submission.csv"\nfile_name = "x{id}.png"')
    for path in sorted((split.raw / "test").iterdir()):
        path.rename(path.with_name(f"x{path.name}"))
    stage("manifest")
    job = make_job("shapes")
    with pytest.raises(InputError, match="do not follow from the names of their files; give IDS"):
        table_of(job, split.raw / "test", None)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x900.png").write_bytes((split.raw / "test" / "x3.png").read_bytes())
    (tmp_path / "a" / "notes.txt").write_text("no image")
    (tmp_path / "ids.csv").write_text("id\n900\n")
    rows, problems, _ = table_of(job, tmp_path / "a", tmp_path / "ids.csv")
    assert rows[["name", "image_id"]].to_numpy().tolist() == [["x900.png", "900"]] and not problems
    edit('file_name = "x{id}.png"', "")
    (split.raw / "sample_submission.csv").write_text("id,label\n" + "".join(f"x{n}.png,circle\n" for n in range(1, 12)))
    stage("manifest")
    rows, _, _ = table_of(make_job("shapes"), tmp_path / "a", None)
    assert list(rows["image_id"]) == ["x900.png"]


def test_the_same_images_give_the_same_rows_and_nothing_else_changes(
    finished: Paths, stage: Stage, failure: Failure, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content_of(finished.home) | content_of(finished.submissions)
    elsewhere = tmp_path / "input" / "test images"
    shutil.copytree(finished.raw / "test", elsewhere)
    stage("tools.hidden", "--test", str(elsewhere), "--folds", "0,2", *SET)
    made = finished.submissions / f"{NAME}~test=test-images~folds=0,2.csv"
    assert made.read_bytes() == (finished.submissions / f"{NAME}~folds=0,2.csv").read_bytes()

    # A longer test set, with the hidden sample, whose order is another one, and a file that cannot be read.
    (elsewhere / "900.png").write_bytes((elsewhere / "3.png").read_bytes())
    (elsewhere / "901.png").write_bytes(b"no image")
    rows = "".join(f"{number},circle\n" for number in (901, 900, *range(1, 12)))
    (tmp_path / "ids.csv").write_text("id,label\n" + rows)
    stage("tools.hidden", "--test", str(elsewhere), "--ids", str(tmp_path / "ids.csv"), "--folds", "0,2", *SET)
    assert "901" in capsys.readouterr().out
    lines = dict(line.split(",") for line in made.read_text().splitlines())
    assert len(lines) == 14 and lines["900"] == lines["3"] and lines["901"] in ("circle", "square")
    about = json.loads(made.with_suffix(".json").read_text())
    assert about["rows"] == 13 and about["test"] == str(elsewhere)
    after = content_of(finished.home) | content_of(finished.submissions)
    assert {path: after[path] for path in before} == before
    older = [path for path in after if path not in before and path.suffix == ".csv" and path != made]
    assert len(older) == 1  # the CSV of the shorter set is kept under its fingerprint

    message = failure("tools.hidden", "--test", str(tmp_path / "nowhere"), *SET)
    assert "TEST = " in message and "nowhere is not a folder" in message
    assert "fold 1 of tiny~epochs=4 is not trained" in failure("tools.hidden", "--test", str(elsewhere), *SET)
    (tmp_path / "ids.csv").write_text("1\n2\n")
    said = failure("tools.hidden", "--test", str(elsewhere), "--ids", str(tmp_path / "ids.csv"), "--folds", "0,2", *SET)
    assert "names the image '1'; add a header" in said
    (tmp_path / "ids.csv").write_text("id,label\n700,circle\n")
    said = failure("tools.hidden", "--test", str(elsewhere), "--ids", str(tmp_path / "ids.csv"), "--folds", "0,2", *SET)
    assert "1 of 1 test row has no image" in said
