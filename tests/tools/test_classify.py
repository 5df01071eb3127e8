"""One image, or a folder of them, through the folds of a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.records.paths import Paths
from tests.conftest import Stage

SET = ["--set", "epochs=4"]


RUN = "tiny~epochs=4"


@pytest.fixture
def trained(split: Paths, stage: Stage) -> Paths:
    """Two trained folds."""
    for fold in ("0", "2"):
        stage("train", "--fold", fold, *SET)
    return split


def test_it_says_what_the_ensemble_says(trained: Paths, stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("predict", "ensemble"):
        stage(name, "--folds", "0,2", *SET)
    expected = pd.read_csv(trained.run(RUN) / "test~folds=0,2.csv", dtype={"id": str}).set_index("id")
    capsys.readouterr()
    stage("tools.classify", "--image", str(trained.raw / "test"), *SET)
    assert "11 images: " in capsys.readouterr().out
    table = pd.read_csv(trained.run(RUN) / "classified" / "test.csv")
    ids = table["image"].str.removesuffix(".png")
    np.testing.assert_allclose(table[["p_circle", "p_square"]], expected.loc[ids], atol=1e-5)
    assert list(table["label"]) == list(table[["p_circle", "p_square"]].idxmax(axis=1).str.removeprefix("p_"))

    stage("tools.classify", "--image", str(trained.raw / "test" / "7.png"), *SET)
    said = capsys.readouterr().out
    best = expected.loc["7"].max()
    assert f"{best:.4f}" in said and "by 2 folds of tiny" in said
    for picture in ("7.png", "test.png"):
        assert (trained.run(RUN) / "classified" / picture).stat().st_size > 5000


def test_what_it_cannot_look_at(
    trained: Paths, stage: Stage, failure: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "no image is given; type: make classify IMAGE=" in failure("tools.classify", *SET)
    assert "there is no 'nowhere.jpg'" in failure("tools.classify", "--image", "nowhere.jpg", *SET)
    assert "no fold of tiny is trained on shapes" in failure("tools.classify", "--image", str(trained.raw))
    folder = tmp_path / "mixed"
    folder.mkdir()
    (folder / "text.jpg").write_text("no image")
    assert "text.jpg cannot be read" in failure("tools.classify", "--image", str(folder / "text.jpg"), *SET)
    name = "a$_$ \u732b.png"  # no formula, and letters that the font may not have
    (folder / name).write_bytes((trained.raw / "test" / "1.png").read_bytes())
    stage("tools.classify", "--image", str(folder / name), *SET)
    assert "not UTF-8 text" in failure("tools.classify", "--image", "\udcff.png", *SET)
    stage("tools.classify", "--image", str(folder), *SET)
    assert "note: " in capsys.readouterr().out
    assert list(pd.read_csv(trained.run(RUN) / "classified" / "mixed.csv")["image"]) == [name]
