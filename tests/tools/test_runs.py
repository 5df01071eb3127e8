"""The list of runs."""

from __future__ import annotations

import shutil

import pytest

from pipeline import submit
from pipeline.records.job import make_job
from pipeline.records.paths import Paths
from pipeline.tools import runs
from tests.conftest import Failure
from tests.runs import drawn_run


def test_runs_are_listed_best_first_with_a_corrected_score(split: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    for seed, noise in enumerate((2.0, 1.0, 3.0)):
        drawn_run(noise, seed, f"epochs={seed + 1}")
    drawn_run(1.0, 5, folds="0")
    submit.run(make_job("shapes", settings=["epochs=2"]))
    table = runs.run(split, "tiny~epochs=2=0.875")
    best_first = list(table["score"][:3])
    assert best_first == sorted(best_first, reverse=True) and list(table["note"]) == ["", "", "", "some folds only"]
    line = table.set_index("name").loc["tiny~epochs=2"]
    assert line["leaderboard"] == 0.875 and line["folds"] == "3 of 3" and line["note"] == ""
    said = capsys.readouterr().out
    assert "the best of these 3, tiny" in said and "corrected for having been chosen: 0." in said and "0.8750" in said

    shutil.rmtree(split.run("tiny~epochs=3"))
    split.toml.write_text(split.toml.read_text().replace('metric  = "accuracy"', 'metric  = "log_loss"'))
    table = runs.run(split)
    assert {*table["note"]} == {f"metric accuracy{more}" for more in ("", ", no predictions", ", some folds only")}


def test_a_score_of_nothing_is_refused(split: Paths, failure: Failure) -> None:
    assert "ledger.csv lists no run of shapes yet" in failure("tools.runs")
    drawn_run(1.0, 0)
    assert "there is no submission 'tiny' of shapes; none was made yet" in failure("tools.runs", "--score", "tiny=0.5")
