"""The contact sheet shows images of every class."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import pytest

from pipeline.pixels import contact_sheet
from pipeline.records.competition import load_competition
from pipeline.records.paths import Paths
from pipeline.records.tables import read_manifest
from pipeline.records.task import read_task
from pipeline.tasks.classification import Classification


def test_ten_images_of_each_class(split: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, list] = {}

    def save(path: object, images: list, titles: list, columns: int, heading: str) -> None:
        seen.update(images=images, titles=titles, heading=[heading])

    monkeypatch.setattr(contact_sheet, "save_grid", save)
    contact_sheet.draw_contact_sheet(read_manifest(split.manifest), read_task(split, load_competition(split)), split)
    assert seen["titles"] == ["circle"] * 10 + ["square"] * 10
    assert len({image.tobytes() for image in seen["images"]}) == 20
    assert seen["heading"] == ["shapes: 60 train images"]


def test_few_images_of_many_classes_fill_the_rows(split: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    """With two images of each class, five classes share a row; no cell stays empty."""
    seen: dict[str, list] = {}

    def save(path: object, images: list, titles: list, columns: int, heading: str) -> None:
        seen.update(titles=titles, columns=[columns])

    monkeypatch.setattr(contact_sheet, "save_grid", save)
    manifest = read_manifest(split.manifest)
    train = manifest[manifest["split"] == "train"].reset_index(drop=True)
    train["label"] = [f"class{row // 2:02}" for row in range(len(train))]
    task = Classification(sorted(set(train["label"])))
    contact_sheet.draw_contact_sheet(train, task, split)
    assert seen["titles"] == [f"class{row // 2:02}" for row in range(60)] and seen["columns"] == [10]


def test_the_manifest_stage_draws_it(shapes: Paths, stage: Callable[..., None]) -> None:
    stage("prepare")
    stage("manifest")
    picture = cv2.imread(str(shapes.contact_sheet))
    assert picture is not None and picture.shape[1] > 800 and picture.std() > 20
