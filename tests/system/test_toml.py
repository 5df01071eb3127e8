"""TOML files that are none."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.driver import plan
from pipeline.driver.options import Options
from pipeline.records import paths
from pipeline.system.errors import FoldwiseError


def test_a_recipe_that_is_no_toml_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken.toml").write_text("epochs = = 3")
    monkeypatch.setattr(paths, "RECIPES", tmp_path)
    with pytest.raises(FoldwiseError, match=r"broken\.toml is not valid TOML"):
        plan.make_plan(Options("digits", "broken"))
