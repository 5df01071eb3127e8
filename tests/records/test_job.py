"""A job from Python is the job of the command line."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pipeline.records.command_line import Call, Machine, parser_for
from pipeline.records.job import job_of, make_job
from pipeline.records.paths import Paths
from pipeline.system.errors import FoldwiseError


def test_python_and_the_command_line_make_one_job(shapes: Paths) -> None:
    parser = parser_for("", "run", "folds", "device")
    words = ["--competition", "shapes", "--recipe", "tiny", "--set", "lr=0.1", "--folds", "2,0", "--workers", "1"]
    job = make_job("shapes", "tiny", ["lr=0.1"], "2,0", machine=Machine(workers=1))
    assert job == job_of(parser.parse_args(words))
    assert job.folds == [0, 2] and job.num_folds == 3 and job.recipe.lr == 0.1
    assert job.fold_folder(2) == shapes.home / "runs" / "tiny~lr=0.1" / "fold2"
    assert job.predictions.oof == shapes.home / "runs" / "tiny~lr=0.1" / "oof~folds=0,2.npz"
    assert make_job("shapes").predictions.record.name == "score.json"


def test_folds_and_settings_in_other_forms(shapes: Paths) -> None:
    expected = make_job("shapes", settings=["lr=0.1", "epochs=2"], folds="0,2")
    assert make_job("shapes", settings="lr=0.1 epochs=2", folds=[0, 2]) == expected
    assert make_job("shapes", folds=1).folds == [1] == make_job("shapes", folds="1").folds
    with pytest.raises(FoldwiseError, match="workers = -3 is less than 0"):
        Machine(workers=-3)


def test_one_fold_and_a_dry_run(shapes: Paths) -> None:
    args = parser_for("", "run", "fold", "device").parse_args(["--competition", "shapes", "--fold", "1", "--dry-run"])
    job = job_of(args)
    assert job.folds == [1] and job.recipe.epochs == 1 and job.paths.output == shapes.home / "dry"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"competition": "shape"}, "did you mean 'shapes'"),
        ({"recipe": "tinyy"}, "did you mean 'tiny'"),
        ({"settings": ["learning=1"]}, "unknown key 'learning'"),
        ({"folds": "3"}, "folds 0 to 2"),
    ],
)
def test_a_wrong_name_is_refused(shapes: Paths, changes: dict, said: str) -> None:
    with pytest.raises(FoldwiseError, match=said):
        make_job(**{"competition": "shapes", **changes})


def test_the_make_command_of_a_call() -> None:
    assert Call().make_line("submit") == "make submit"
    call = Call("a b", "tiny", ["lr=1", "model_args.x='$HOME'"], "0,1", True)
    assert call.make_line("predict") == (
        "make predict COMPETITION='a b' RECIPE=tiny SET='lr=1 model_args.x='\"'\"'$HOME'\"'\"'' FOLDS=0,1 DRY=1"
    )


def test_images_that_are_no_squares_are_not_turned(split: Paths, edit: Callable[[str, str], None]) -> None:
    edit('recipe  = "tiny"', 'recipe  = "tiny"\nsymmetries = ["hflip", "rot90"]')
    with pytest.raises(FoldwiseError, match=r"image_size = \[16, 24\] is not a square, but symmetries in .* has rot90"):
        make_job("shapes", settings=["image_size=[16,24]"])
    assert make_job("shapes", settings=["image_size=[16,24]", "symmetries=false", "tta=false"]).recipe.size == (16, 24)
