"""What is read for a page."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline import submit
from pipeline.records.job import make_job
from pipeline.records.paths import Paths
from pipeline.report.material import image_file, read_material
from pipeline.system.errors import StaleError
from pipeline.tools import runs
from tests.runs import drawn_run


def test_it_holds_what_was_scored_and_submitted(split: Paths) -> None:
    prediction = drawn_run(1.5, 0)
    submit.run(make_job("shapes"))
    runs.run(split, "tiny=0.75")
    material = read_material(make_job("shapes"))
    assert prediction.oof is not None and prediction.test is not None
    assert list(material.rows["image_id"]) == list(prediction.oof["id"]) and len(material.rows) == 60
    np.testing.assert_allclose(material.predictions, prediction.oof[["p_circle", "p_square"]], atol=1e-6)
    metric = material.tables.metric
    assert metric(material.targets.argmax(axis=1), material.decisions) == pytest.approx(prediction.score["cv_score"])
    assert material.test.shape == (11, 2) and [*material.members] == ["fold 0", "fold 1", "fold 2"]
    mean = np.mean([*material.members.values()], axis=0)
    np.testing.assert_allclose(mean, prediction.test[["p_circle", "p_square"]], atol=1e-6)
    assert material.leaderboard == 0.75 and material.submission["rows"] == 11
    assert "epochs = 4" in material.recipe_text or "epochs" in material.recipe_text

    drawn_run(3.0, 1)  # the submission on the disk is now that of other predictions
    assert read_material(make_job("shapes")).submission == {}


def test_predictions_that_are_missing_or_of_other_folds_are_refused(split: Paths) -> None:
    with pytest.raises(StaleError, match="tiny of shapes is not combined yet; type: make ensemble COMPETITION=shapes"):
        read_material(make_job("shapes"))
    drawn_run(1.5, 0)
    split.folds.write_text(split.folds.read_text().replace("\r", "") + "\n")
    with pytest.raises(StaleError, match="made with other folds than"):
        read_material(make_job("shapes"))


def test_no_file_outside_of_the_competition_is_an_image(split: Paths) -> None:
    job = make_job("shapes")
    assert image_file(job, "raw/train/circle_0.png") == split.home / "raw" / "train" / "circle_0.png"
    for path in ("../../secret.png", "/etc/passwd", "raw/../../other/raw/1.png"):
        assert image_file(job, path) is None
