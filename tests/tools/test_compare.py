"""A gain is told from noise."""

from __future__ import annotations

import pytest

from pipeline.records.paths import Paths
from pipeline.tools import compare
from tests.conftest import Failure
from tests.runs import drawn_run


def test_noise_and_a_real_gain_are_told_in_a_sentence(split: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    drawn_run(1.5, 0)
    drawn_run(1.5, 1, "seed=1")
    drawn_run(30.0, 2, "epochs=9")
    capsys.readouterr()
    difference = compare.run(split, "tiny", "tiny~seed=1")
    said = capsys.readouterr().out
    assert not difference.is_real and "not to be told from noise" in said and "by 2 trainings" in said
    difference = compare.run(split, "tiny~epochs=9", "tiny")
    assert difference.high < 0 and "tiny is better than tiny~epochs=9 by 0." in capsys.readouterr().out


def test_only_rows_of_both_are_compared(split: Paths, failure: Failure, capsys: pytest.CaptureFixture[str]) -> None:
    drawn_run(1.5, 0)
    drawn_run(1.5, 1, "epochs=9", folds="0,1")
    drawn_run(1.5, 1, "epochs=9", folds="2")
    compare.run(split, "tiny", "tiny~epochs=9~folds=0,1")
    said = capsys.readouterr().out
    assert "only the 40 rows of both are compared" in said and "noise between seeds is not known" in said
    message = failure("tools.compare", "--first", "tiny~epochs=9~folds=2", "--second", "tiny~epochs=9~folds=0,1")
    assert "have no fold in common" in message
    assert "name two different runs" in failure("tools.compare", "--first", "tiny", "--second", "tiny")
