"""The training stage."""

from __future__ import annotations

import pytest

from pipeline.records.paths import Paths
from pipeline.system import signals
from tests.conftest import Stage
from tests.trainings import FOLD_0, SETTINGS, Trained, forget, trained


def test_another_number_of_workers(split: Paths, stage: Stage, undisturbed: Trained) -> None:
    """In mid-epoch, too: begun without loader processes, gone on with two."""
    stage("train", *FOLD_0, *SETTINGS, "--workers", "2")
    assert trained(split) == undisturbed
    forget(split)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(
            signals.Stop, "asked", property(lambda stop: bool(stop.note(15, None) if not stop.reason else 1))
        )
        with pytest.raises(SystemExit):
            stage("train", *FOLD_0, *SETTINGS)
    stage("train", *FOLD_0, *SETTINGS, "--workers", "2")
    assert trained(split) == undisturbed
