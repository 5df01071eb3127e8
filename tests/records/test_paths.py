"""Names of competitions, runs and folds."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pipeline.records.paths import MAX_RUN_NAME_BYTES, Paths, name_with_folds, parse_folds, run_name
from pipeline.system.errors import FoldwiseError
from tests.conftest import PLAIN_TOML, Failure, Stage


def test_a_long_set_makes_a_short_name_of_its_own() -> None:
    settings = [f"augment.color_jitter.key{number}=0.{number}" for number in range(20)]
    name = run_name("resnet18", settings)
    assert len(name.encode()) <= MAX_RUN_NAME_BYTES and name.startswith("resnet18~augment.color_jitter.key0=0.0")
    assert run_name("resnet18", settings[::-1]) == name
    others = {run_name("resnet18", [*settings[:19], f"z={number}"]) for number in range(100)}
    assert len(others) == 100 and name not in others
    assert len(run_name("x", ["größe=" + "ß" * 30] * 9).encode()) <= MAX_RUN_NAME_BYTES
    assert run_name("tiny", ["lr=1e-3", "epochs=2"]) == "tiny~epochs=2~lr=1e-3"
    most = list(range(99))
    assert len(name_with_folds(name, most, 100, ".csv")) < 200
    assert name_with_folds(name, most, 100) != name_with_folds(name, [*most[1:], 99], 100)


def test_a_users_file_that_has_a_name_of_ours(plain: Paths, stage: Stage, failure: Callable[..., str]) -> None:
    """It is refused before it is replaced."""
    labels = (plain.raw / "train.csv").read_text()
    for name, first in (("manifest.csv", "manifest"), ("problems.csv", "manifest"), ("folds.csv", "folds")):
        if first == "folds":
            for before in ("prepare", "manifest"):
                stage(before)
        mine = plain.home / name
        mine.write_text(labels)
        assert f"{name} would be replaced, but Foldwise has not written it" in failure(first)
        assert mine.read_text() == labels
        mine.unlink()
    (plain.home / "folds.csv").write_text("image_id,label,group,fold\n")
    plain.toml.write_text(PLAIN_TOML.replace("n = 2", 'n = 2\nfile = "folds.csv"'))
    assert "names 'folds.csv', which is a file that Foldwise writes" in failure("folds")
    plain.toml.write_text(PLAIN_TOML.replace('"train.csv"', '"manifest.csv"'))
    assert "names 'manifest.csv', which is a file that Foldwise writes" in failure("manifest")


def test_names_of_runs() -> None:
    assert run_name("resnet18", []) == "resnet18"
    assert run_name("resnet18", ["lr=1e-3", "epochs=2"]) == "resnet18~epochs=2~lr=1e-3"
    assert "/" not in run_name("resnet18", ["model=torchvision/resnet18"])


def test_folds_asked_for() -> None:
    assert parse_folds("", 3) == [0, 1, 2]
    assert parse_folds("2,0", 3) == [0, 2]
    for text in ("3", "x", "-1"):
        with pytest.raises(FoldwiseError, match="folds 0 to 2"):
            parse_folds(text, 3)


def test_unknown_competition_names_the_nearest(shapes: Paths, failure: Failure) -> None:
    assert "did you mean 'shapes'?" in failure("folds", competition="shaeps")


@pytest.mark.parametrize("fold", ["3", "-1"])
def test_fold_out_of_range(split: Paths, stage: Stage, failure: Failure, fold: str) -> None:
    assert "folds 0 to 2" in failure("train", "--fold", fold)
