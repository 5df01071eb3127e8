"""The list of faults that a user can mend: one sentence, non-zero exit, no traceback, nothing lost."""

from __future__ import annotations

import errno
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import pipeline.folds
import pipeline.train
from pipeline.records.paths import Paths
from tests.conftest import Stage

Failure = Callable[..., str]
Edit = Callable[[str, str], None]


def test_unknown_competition_names_the_nearest(shapes: Paths, failure: Failure) -> None:
    assert "did you mean 'shapes'?" in failure("folds", competition="shaeps")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (["--recipe", "resnet19"], "unknown recipe 'resnet19'; did you mean 'resnet18'?"),
        (["--set", "epoch=2"], "unknown key 'epoch'; did you mean 'epochs'?"),
        (["--set", "epochs=many"], "epochs"),
        (["--set", "epochs=0"], "greater than or equal to 1"),
        (["--set", "lr"], "key=value"),
        (["--set", "lr=1", "epochs=2", "lr=2"], "the setting 'lr' is given 2 times"),
        (["--set", "model_args.width=0"], "no weights in '0.weight' with model_args {'width': 0}"),
        (["--set", "model_args.width=-1"], "cannot be built with model_args {'width': -1}"),
        (["--set", "model_args.width=1000000000"], "it needs more memory than this machine has"),
        (
            ["--set", "pretrained=/etc/passwd"],
            "holds no weights (it is neither a .safetensors nor a .pth file)",
        ),
        (["--set", "model=resnet81"], "unknown model 'resnet81'; did you mean 'resnet18"),
        (["--set", "model=torchvision/resnet81"], "did you mean 'resnet18'?"),
        (["--set", "model_args.widht=8"], "widht"),
        (["--set", "augment.afine.degrees=5"], "did you mean 'affine'?"),
        (["--set", "augment.affine.degree=5"], "did you mean 'degrees'?"),
        (["--device", "cuda:7"], "no device 'cuda:7'"),
        (["--device", "gpu"], "unknown device 'gpu'"),
    ],
)
def test_wrong_choices(split: Paths, stage: Stage, failure: Failure, settings: list[str], expected: str) -> None:
    assert expected in failure("train", "--fold", "0", *settings)


@pytest.mark.parametrize("fold", ["3", "-1"])
def test_fold_out_of_range(split: Paths, stage: Stage, failure: Failure, fold: str) -> None:
    assert "folds 0 to 2" in failure("train", "--fold", fold)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("metric ", "metrik ", "unknown key 'metrik'; did you mean 'metric'?"),
        ("seed = 42", "sed = 42", "unknown key 'folds.sed'; did you mean 'seed'?"),
        ('"accuracy"', '"acuracy"', "did you mean 'accuracy'?"),
        ("n    = 3", "n    = 1", "greater than or equal to 2"),
        ("[train]", "[train", "not valid TOML"),
        (r"^(?P<label>.*?)_(?P<id>\d+)\.png$", r"^(.*?)_(\d+)\.png$", r"^(?P<label>.*?)_(?P<id>\d+)\.png$"),
        (r"^(?P<id>\d+)\.png$", r"^(\d+)\.png$", r"^(?P<id>\d+)\.png$"),
        (r"(?P<id>\d+)\.png$'", r"(?P<id>\d+\.png$'", "not a regular expression"),
        ("[test]", "[tests]", "did you mean 'test'?"),
    ],
)
def test_wrong_facts(shapes: Paths, failure: Failure, edit: Edit, old: str, new: str, expected: str) -> None:
    edit(old, new)
    assert expected in failure("manifest")


def test_a_pattern_that_matches_nothing_shows_three_names(shapes: Paths, failure: Failure, edit: Edit) -> None:
    edit(r"\d+)\.png$'", r"\d+)\.jpeg$'")
    message = failure("manifest")
    assert "matches none of the 60 files" in message and message.count(".png'") == 3


def test_an_empty_and_a_missing_folder(shapes: Paths, failure: Failure) -> None:
    for path in (shapes.raw / "train").iterdir():
        path.unlink()
    assert "is empty" in failure("manifest")
    (shapes.raw / "train").rmdir()
    assert "names 'train', which is neither in" in failure("manifest")


def test_too_many_bad_files(shapes: Paths, failure: Failure) -> None:
    for number in range(0, 8, 2):
        (shapes.raw / "train" / f"circle_{number}.png").write_bytes(b"")
    message = failure("manifest")
    assert "4 of 60 train files cannot be used (4 unreadable)" in message and "max_bad" in message
    assert shapes.problems.read_text().count("the file is empty") == 4


def test_two_test_files_with_one_id(shapes: Paths, failure: Failure, edit: Edit) -> None:
    edit(r"^(?P<id>\d+)\.png$", r"^0*(?P<id>\d+)\.png$")
    shutil.copy(shapes.raw / "test" / "7.png", shapes.raw / "test" / "007.png")
    message = failure("manifest")
    assert "id '7'" in message and "'007.png' and '7.png'" in message


def test_a_csv_without_the_named_column(shapes: Paths, failure: Failure, edit: Edit) -> None:
    (shapes.raw / "labels.csv").write_text("image,class\nsquare_1,square\n")
    edit(r"pattern = '^(?P<label>.*?)_(?P<id>\d+)\.png$'", 'labels = "labels.csv"\nlabel_column = "clas"')
    assert "no column 'clas'; did you mean 'class'?" in failure("manifest")


def test_raw_data_missing_says_what_to_download(shapes: Paths, failure: Failure, edit: Edit) -> None:
    shutil.rmtree(shapes.raw)
    edit('recipe  = "tiny"', 'recipe = "tiny"\nslug = "shapes-2026"')
    assert "kaggle competitions download shapes-2026 -p data/shapes/raw" in failure("prepare")


def test_stages_out_of_order_say_what_is_missing(shapes: Paths, stage: Stage, failure: Failure) -> None:
    assert "there is no data/shapes/manifest.csv" in failure("folds")
    for name in ("prepare", "manifest", "folds"):
        stage(name)
    assert "type: make train COMPETITION=shapes FOLDS=1" in failure("predict", "--folds", "1")
    assert "make predict COMPETITION=shapes" in failure("ensemble")
    assert "make ensemble COMPETITION=shapes" in failure("submit")


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


@pytest.mark.parametrize(("number", "expected"), [(errno.ENOSPC, "the disk is full"), (errno.EROFS, "read-only disk")])
def test_no_disk_space_and_a_read_only_folder(
    shapes: Paths, stage: Stage, failure: Failure, monkeypatch: pytest.MonkeyPatch, number: int, expected: str
) -> None:
    stage("prepare")
    stage("manifest")

    def refuse(path: Path, *_: object) -> None:
        raise OSError(number, "refused by the test", str(path))

    monkeypatch.setattr(pipeline.folds, "write_csv", refuse)
    message = failure("folds")
    assert expected in message and "folds.csv" in message


def test_an_unexpected_fault_names_the_log_with_its_traceback(
    shapes: Paths, stage: Stage, monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    monkeypatch.setattr(pipeline.folds, "make_folds", lambda *_: 1 / 0)
    stage("prepare")
    stage("manifest")
    with pytest.raises(SystemExit) as stopped:
        stage("folds")
    assert "unexpected ZeroDivisionError" in str(stopped.value.code) and "data/error.log" in str(stopped.value.code)
    assert "Traceback" in (root / "data" / "error.log").read_text()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["COMPETITION=digts"], "did you mean 'digits'?"),
        (["RECIPE=resnet19"], "did you mean 'resnet18'?"),
        (["FOLDS=0,7"], "fold 7 is out of range"),
    ],
)
def test_make_refuses_before_it_does_anything(arguments: list[str], expected: str) -> None:
    checkout = Path(pipeline.train.__file__).parents[1]
    answer = subprocess.run(["make", "--dry-run", "submit", *arguments], cwd=checkout, capture_output=True, text=True)
    assert answer.returncode != 0
    assert expected in answer.stderr and "Traceback" not in answer.stderr


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--threads", "9999", "'9999' is not a whole number from 0 to"),
        ("--threads", "-1", "'-1' is not a whole number"),
        ("--workers", "999", "'999' is not a whole number from 0 to"),
        ("--workers", "-1", "'-1' is not a whole number"),
        ("--fold", "one", "invalid int value: 'one'"),
    ],
)
def test_an_option_that_cannot_be_obeyed(option: str, value: str, said: str) -> None:
    """One sentence, before anything heavy is imported."""
    words = ["--fold", "0", option, value] if option != "--fold" else [option, value]
    answer = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "pipeline.train", *words], capture_output=True, text=True
    )
    told = [line for line in answer.stderr.splitlines() if not line.startswith("import time:")]
    assert answer.returncode == 2 and len(told) == 1 and told[0].startswith("error: argument ") and said in told[0]
    assert "| torch\n" not in answer.stderr and "pandas" not in answer.stderr
