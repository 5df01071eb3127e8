"""The sections of the page of a run, for each kind of task."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline import submit
from pipeline.records.job import make_job
from pipeline.records.paths import Paths
from pipeline.report import sections
from pipeline.report.material import read_material
from pipeline.report.page import Chart, Table, Text
from tests.conftest import Stage
from tests.kinds import KINDS, draw_kind
from tests.runs import drawn_run


def blocks_of(section: object, kind: type) -> list:
    assert isinstance(section, sections.Section)
    return [block for block in section.blocks if isinstance(block, kind)]


def test_the_headline_and_the_tables_hold_the_scores(split: Paths) -> None:
    score = drawn_run(2.0, 0).score
    submit.run(make_job("shapes"))
    material = read_material(make_job("shapes"))
    facts = dict(sections.headline(material).facts)
    assert facts["out-of-fold accuracy (higher is better)"] == f"{score['cv_score']:.4f}"
    assert facts["made of"] == "3 folds" and "to expect on 11 test images" in facts
    right = round(score["cv_score"] * 60)
    mistakes = sections.mistakes(material)
    assert f"{right} of 60 out-of-fold images are right" in blocks_of(mistakes, Text)[0].text
    (classes,) = blocks_of(mistakes, Table)  # the most frequent mistakes of two classes are in it
    lost = [row[classes.columns.index("cost")].value for row in classes.rows]
    assert sum(lost) == pytest.approx(1 - score["cv_score"]) and lost == sorted(lost, reverse=True)
    by_fold = blocks_of(sections.folds(material), Table)[0]
    assert [row[2].value for row in by_fold.rows] == pytest.approx(score["fold_scores"])
    assert sections.progress(material) is None  # drawn predictions have no log
    commands = sections.making(material).blocks[1]
    assert commands.text.splitlines()[0] == "make submit COMPETITION=shapes"
    assert blocks_of(sections.calibration(material), Chart)
    assert [row[0].text for row in blocks_of(sections.data(material, None), Table)[0].rows] == ["circle", "square"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_task_has_its_tables(kind: str, root: Path, stage: Stage) -> None:
    draw_kind(root / "data" / "shapes", kind)
    (root / "data" / "shapes" / "raw" / "test" / "4.png").write_bytes(b"not an image")
    for name in ("prepare", "manifest", "folds"):
        stage(name)
    drawn_run(1.0, 0) if kind != "regression" else drawn_run(0.5, 0)
    material = read_material(make_job("shapes"))
    tables = blocks_of(sections.mistakes(material), Table)
    columns = {"multilabel": "threshold", "regression": "rmse", "ordinal": "most often taken for"}
    assert columns[kind] in tables[0].columns
    assert (sections.calibration(material) is None) == (kind == "regression")
    problems = blocks_of(sections.data(material, None), Table)[-1]
    assert ("unreadable", "raw/test/4.png") in [(row[0].text, row[2].text) for row in problems.rows]
    assert len(blocks_of(sections.mistakes(material), Chart)) == {"multilabel": 1, "regression": 2, "ordinal": 1}[kind]
