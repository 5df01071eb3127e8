"""Typed settings."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline.records.paths import Paths
from pipeline.records.recipe import load_recipe
from pipeline.system.places import CHECKOUT
from tests.conftest import Failure


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a = " + "[" * 5000, "nested too deeply"),
        ("n = " + "9" * 5000, "not valid TOML"),
        ("title = 1\ntitle = 2", "not valid TOML"),
        ("#" * 1_100_000, "more than the limit of 1,000,000"),
        ("lr = inf", "finite number"),
        ("lr = nan", "finite number"),
        ('lr = "1e-4x"', "lr"),
        ("unknown = 1", "unknown key 'unknown'"),
    ],
)
def test_damaged_toml_and_wrong_settings(
    split: Paths, failure: Failure, text: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TOML has no tags and no aliases; what is left of the row: depth, length, repeats, types, unknown keys. And
    1e-4 is a number in it."""
    shutil.copytree(CHECKOUT / "pipeline" / "recipes", tmp_path / "recipes")
    monkeypatch.setattr("pipeline.records.paths.RECIPES", tmp_path / "recipes")
    tiny = (tmp_path / "recipes" / "tiny.toml").read_text()
    assert load_recipe("tiny", ["lr=1e-4"]).lr == 1e-4
    without_lr = tiny.replace("lr         = 3e-3\n", "") if text.startswith("lr") else tiny
    (tmp_path / "recipes" / "tiny.toml").write_text(text + "\n" + without_lr)
    assert expected in failure("train", "--fold", "0")
