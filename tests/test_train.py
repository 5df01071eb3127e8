"""The training stage."""

from __future__ import annotations

import pytest

from pipeline.records.paths import Paths
from tests.conftest import Stage
from tests.trainings import FOLD_0, SETTINGS, Trained, forget, stopped_at_once, trained


def test_another_number_of_workers(split: Paths, stage: Stage, undisturbed: Trained) -> None:
    """In mid-epoch, too: begun without loader processes, gone on with two."""
    stage("train", *FOLD_0, *SETTINGS, "--workers", "2")
    assert trained(split) == undisturbed
    forget(split)
    with stopped_at_once():
        stage("train", *FOLD_0, *SETTINGS)
    stage("train", *FOLD_0, *SETTINGS, "--workers", "2")
    assert trained(split) == undisturbed


def test_a_trained_fold_is_left_alone_whatever_its_log_holds(
    split: Paths, stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    stage("train", "--fold", "0", "--set", "epochs=1")
    log = next(split.runs.glob("*/fold0/log.csv"))
    for damage in (lambda: log.write_text("epoch\nx\n"), log.unlink):
        damage()
        stage("train", "--fold", "0", "--set", "epochs=1")
        assert "is trained already" in capsys.readouterr().out
