"""Which images are shown."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pipeline.records.job import make_job
from pipeline.records.paths import Paths
from pipeline.report import images
from pipeline.report.examples import Examples
from pipeline.report.material import Material, read_material
from pipeline.report.page import Cards
from pipeline.tools import blend
from tests.runs import drawn_run


def material_of_run() -> tuple[Material, Examples]:
    material = read_material(make_job("shapes"))
    return material, Examples(material.job, material.tables.manifest)


def test_the_most_costly_images_come_first_and_each_class_has_some(split: Paths) -> None:
    drawn_run(2.0, 0)
    material, examples = material_of_run()
    rows = images.costly_rows(material)
    assert list(material.costs[rows]) == sorted(material.costs[rows], reverse=True)
    assert rows[0] == material.costs.argmax() and {*material.rows["label"].iloc[rows]} == {"circle", "square"}
    section = images.costly(material, examples)
    assert section is not None
    first = section.blocks[0].cards[0]
    assert first.is_wrong and first.names == [material.rows["label"].iloc[rows[0]]]
    assert first.sort["highest loss first"] == material.costs.max() and first.images[0].startswith(
        "data:image/png;base64,"
    )
    few = replace(material, rows=material.rows.iloc[:3], raw=material.raw[:3], values=material.values[:3])
    assert len(images.costly_rows(few)) == 3


def test_the_test_images_that_the_folds_and_runs_disagree_on(split: Paths) -> None:
    drawn_run(2.0, 0)
    material, examples = material_of_run()
    section = images.unsure(material, examples)
    assert section is not None
    differ, sure = section.blocks
    stack = np.stack([*material.members.values()])
    assert differ.cards[0].lines[-1] == material.test_rows["image_id"].iloc[stack.std(axis=0).mean(axis=1).argmax()]
    assert differ.cards[0].lines[0].startswith("fold 0: ")
    assert sure.cards[0].lines[-1] == material.test_rows["image_id"].iloc[material.test.max(axis=1).argmax()]

    drawn_run(3.0, 1, "epochs=9")
    blend.run([make_job("shapes"), make_job("shapes", settings=["epochs=9"])], "both")
    of_blend = replace(make_job("shapes").call, blend="both")
    material = read_material(replace(make_job("shapes"), call=of_blend))
    section = images.unsure(material, Examples(material.job, material.tables.manifest))
    assert section is not None and isinstance(section.blocks[0], Cards)
    assert "runs of the blend" in section.blocks[0].caption
    assert [line.split(":")[0] for line in section.blocks[0].cards[0].lines[:2]] == ["tiny", "tiny~epochs=9"]
