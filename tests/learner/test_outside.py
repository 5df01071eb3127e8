"""Images that are not in the manifest."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.learner.outside import Outside
from pipeline.records.job import make_job
from pipeline.records.paths import Paths
from pipeline.records.tables import read_manifest
from pipeline.system.errors import StaleError
from tests.conftest import Stage


def test_the_predictions_are_those_of_the_predict_stage(split: Paths, stage: Stage) -> None:
    settings, run = ["epochs=2", "image_size=[16,24]"], "tiny~epochs=2~image_size=-16,24-"
    with pytest.raises(StaleError, match=f"no fold of {run} is trained on shapes; type: make train"):
        Outside(make_job("shapes", settings=settings))
    for name in ("train", "predict"):
        stage(name, "--fold" if name == "train" else "--folds", "0", "--set", *settings)
    outside = Outside(make_job("shapes", settings=settings))
    assert outside.described == f"1 fold of {run}" and outside.rule == {}
    rows = read_manifest(split.manifest).query("split == 'test'").reset_index(drop=True)
    rows = rows.assign(path=[str(split.home / path) for path in rows["path"]], position=range(len(rows)))
    with np.load(split.fold(run, 0) / "test.npz") as saved:
        expected = saved["predictions"]
    np.testing.assert_allclose(outside.predict(outside.dataset(rows), "test", fused=True)[0], expected, atol=1e-6)
