"""Names of competitions, runs and folds."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pipeline.records.paths import Paths
from tests.conftest import PLAIN_TOML, Failure, Stage


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


def test_unknown_competition_names_the_nearest(shapes: Paths, failure: Failure) -> None:
    assert "did you mean 'shapes'?" in failure("folds", competition="shaeps")


@pytest.mark.parametrize("fold", ["3", "-1"])
def test_fold_out_of_range(split: Paths, stage: Stage, failure: Failure, fold: str) -> None:
    assert "folds 0 to 2" in failure("train", "--fold", fold)
