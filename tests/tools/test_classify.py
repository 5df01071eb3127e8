"""One image, or a folder of them, through the folds of a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from pipeline.learner.gradcam import grad_cam
from pipeline.learner.networks import REGISTERED
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
    for picture in ("7.png.png", "test.png"):
        assert (trained.run(RUN) / "classified" / picture).stat().st_size > 5000


def test_what_it_cannot_look_at(
    trained: Paths, stage: Stage, failure: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "no image is named; type: make classify IMAGE=" in failure("tools.classify", *SET)
    assert "there is no 'nowhere.jpg'" in failure("tools.classify", "--image", "nowhere.jpg", *SET)
    assert "no fold of tiny is trained on shapes" in failure("tools.classify", "--image", str(trained.raw))
    folder = tmp_path / "mixed"
    folder.mkdir()
    (folder / "text.jpg").write_text("no image")
    assert "text.jpg cannot be read" in failure("tools.classify", "--image", str(folder / "text.jpg"), *SET)
    name = "a$_$ \u732b.png"  # no formula, and letters that the font may not have
    (folder / name).write_bytes((trained.raw / "test" / "1.png").read_bytes())
    stage("tools.classify", "--image", str(folder / name), *SET)
    assert "no UTF-8 text" in failure("tools.classify", "--image", "\udcff.png", *SET)
    stage("tools.classify", "--image", str(folder), *SET)
    assert "note: " in capsys.readouterr().out
    assert list(pd.read_csv(trained.run(RUN) / "classified" / "mixed.csv")["image"]) == [name]


def test_the_heat_is_the_class_activation_map() -> None:
    """Where a mean and a linear layer end a network, Grad-CAM is CAM (Zhou et al., 2016), which needs no gradient."""
    torch.manual_seed(0)
    module = REGISTERED["small_cnn"].build(3, width=4).eval()
    inputs = torch.randn(1, 3, 32, 32)
    assert isinstance(module, nn.Sequential)
    ends = next(place for place, part in enumerate(module) if isinstance(part, nn.AdaptiveAvgPool2d))
    head = module[-1]
    assert isinstance(head, nn.Linear)
    with torch.no_grad():
        maps = module[:ends](inputs)
        cam = (head.weight[2].view(1, -1, 1, 1) * maps).sum(1, keepdim=True).relu()
        cam = nn.functional.interpolate(cam, (32, 32), mode="bilinear")[0, 0]
    heat = grad_cam(module, inputs, 2)
    assert heat is not None and heat.max() == pytest.approx(1)
    np.testing.assert_allclose(heat, cam / cam.max(), atol=1e-5)
