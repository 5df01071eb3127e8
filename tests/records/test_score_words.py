"""What people read of a score."""

from __future__ import annotations

import pytest

from pipeline.records.score_words import known_of, report_twin

SCORE = {"metric": "accuracy", "cv_score": 0.9, "expected_score": 0.91, "interval_95": [0.85, 0.95], "seeds": 2}


def test_a_training_on_all_rows_has_the_words_of_its_twin(capsys: pytest.CaptureFixture[str]) -> None:
    assert known_of({**SCORE, "twin": "tiny"}) == (
        "out-of-fold accuracy 0.9000 of tiny; expect 0.9100 on the leaderboard, 95 % interval 0.8500 to 0.9500"
    )
    assert "nothing is known of the score" in known_of({**SCORE, "cv_score": None, "interval_95": None})
    report_twin({**SCORE, "twin": "tiny~seeds=2"}, "make ensemble SEEDS=2")
    assert "interval 0.8500 to 0.9500 for the mean of 2 networks" in capsys.readouterr().out
