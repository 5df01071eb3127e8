"""The small images of a page, and the heat maps over them."""

from __future__ import annotations

import base64

import cv2
import numpy as np
import pytest

from pipeline.pixels.decode import decode
from pipeline.records.job import make_job
from pipeline.records.paths import Paths
from pipeline.records.tables import read_manifest
from pipeline.report.examples import SIDE, Examples, as_data, heated, shrunk
from pipeline.report.material import read_material
from tests.conftest import Stage
from tests.runs import drawn_run

SET = ["--set", "epochs=4"]


def pixels_of(address: str) -> np.ndarray:
    """The image in the address of an <img>."""
    found = cv2.imdecode(np.frombuffer(base64.b64decode(address.partition(",")[2]), np.uint8), cv2.IMREAD_COLOR_RGB)
    assert found is not None
    return found


def test_small_images_stay_as_they_are_and_large_ones_become_small() -> None:
    tiny = np.random.default_rng(0).integers(0, 256, (2, 5, 3), dtype=np.uint8)
    assert np.array_equal(pixels_of(as_data(shrunk(tiny))), tiny)
    large = shrunk(np.full((1000, 300, 3), 200, np.uint8))
    assert large.shape == (SIDE, 43, 3) and as_data(large).startswith("data:image/jpeg")


def test_heat_is_where_the_map_is() -> None:
    heat = np.zeros((8, 8), np.float32)
    heat[2, 3] = 1
    image = np.full((8, 8, 3), 100, np.uint8)
    over = heated(image, heat).astype(int)
    assert over[2, 3].sum() > 1.5 * over[0, 0].sum()


def test_images_and_heat_maps_of_a_trained_run(split: Paths, stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    for fold in ("0", "2"):
        stage("train", "--fold", fold, *SET)
    for name in ("predict", "ensemble"):
        stage(name, "--folds", "0,2", *SET)
    job = make_job("shapes", settings=["epochs=4"], folds="0,2")
    material = read_material(job)
    examples = Examples(job, material.tables.manifest)
    row = material.rows.iloc[0]
    original = decode((split.home / row["path"]).read_bytes())
    assert np.array_equal(pixels_of(examples.thumbnail(row["image_id"], "train")), original)
    maps = [examples.heat_map(row["image_id"], fold, 0) for fold in (0, 2)]
    assert maps[0] != maps[1] and all(pixels_of(one).shape[2] == 3 for one in maps)
    shown = examples.augmented(material.rows["image_id"].tolist()[:5])
    assert [*shown] == material.rows["image_id"].tolist()[:5] and len({*shown.values()}) == 5

    (split.home / row["path"]).unlink()
    assert examples.thumbnail(row["image_id"], "train") == examples.heat_map(row["image_id"], 0, 0) == ""
    assert examples.augmented([row["image_id"]]) == {}
    (split.fold("tiny~epochs=4", 0) / "trained.json").unlink()
    again = Examples(job, material.tables.manifest)
    assert again.heat_map(material.rows["image_id"].iloc[1], 0, 0) == ""


def test_a_train_and_a_test_image_with_the_same_id(split: Paths, stage: Stage) -> None:
    manifest = read_manifest(split.manifest)
    manifest["image_id"] = manifest.groupby("split").cumcount().astype(str)
    examples = Examples(make_job("shapes"), manifest)
    for name in ("train", "test"):
        path = manifest.loc[(manifest["split"] == name) & (manifest["image_id"] == "3"), "path"].item()
        assert np.array_equal(pixels_of(examples.thumbnail("3", name)), decode((split.home / path).read_bytes()))


def test_a_run_without_its_weights_has_no_heat_maps(split: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    drawn_run(1.0, 0)
    material = read_material(make_job("shapes"))
    examples = Examples(material.job, material.tables.manifest)
    assert examples.heat_map("circle_0", 0, 0) == "" and examples.augmented(["circle_0"]) == {}
    assert "note: no heat maps: " in capsys.readouterr().out
