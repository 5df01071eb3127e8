"""A blend of runs is a prediction like that of a run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, log_loss

from pipeline import submit
from pipeline.records.command_line import Call
from pipeline.records.job import make_job
from pipeline.records.ledger import read_ledger
from pipeline.records.paths import Paths
from pipeline.system.files import read_json, read_record
from pipeline.tools import blend
from tests.conftest import Failure, Stage
from tests.runs import drawn_run


def test_a_blend_is_scored_written_and_submitted(
    split: Paths, stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed, settings in enumerate(([], ["epochs=2"], ["epochs=3"])):
        drawn_run(1.6, seed, *settings)
    names = ["tiny", "tiny~epochs=2", "tiny~epochs=3"]
    stage("tools.blend", "--runs", *names)
    said = capsys.readouterr().out
    assert "greedy selection" in said and "<- used" in said and "runs blended by" in said
    folder = split.blend("+".join(names))
    score = read_record(folder.record)
    labels = dict(zip(*[read_folds_column(split, column) for column in ("image_id", "label")], strict=True))
    oof = np.load(folder.oof)
    truth = [labels[name] for name in oof["image_ids"]]
    best = np.array(["circle", "square"])[oof["predictions"].argmax(axis=1)]
    assert score["cv_score"] == pytest.approx(accuracy_score(truth, best))
    assert score["cv_score"] > max(score["scores_alone"]) and len(score["without"]) == 3
    assert np.diag(score["correlations"]) == pytest.approx(np.ones(3)) and {*score["ways"]} >= {"mean", "stacking"}

    if score["way"] == "mean":  # the members' test predictions, averaged
        tests = [np.load(split.run(name) / "test.npz")["predictions"] for name in names]
        np.testing.assert_allclose(np.load(folder.test)["predictions"], np.mean(tests, axis=0), atol=1e-6)
    stage("submit", "--blend", "+".join(names))
    about = read_json(split.submission("+".join(names)).with_name("+".join(names) + ".json"), "score")
    assert {*about["made_of"]} == {*names} and about["rows"] == 11 and about["call"]["blend"] == "+".join(names)
    assert list(read_ledger(split)["what"]) == ["run"] * 3 + ["blend", "submission"]


def read_folds_column(paths: Paths, column: str) -> list[str]:
    """A column of folds.csv."""
    header, *lines = paths.folds.read_text().splitlines()
    return [line.split(",")[header.split(",").index(column)] for line in lines]


def test_one_good_run_among_noise_gets_the_weight(split: Paths) -> None:
    toml = split.toml
    toml.write_text(toml.read_text().replace('metric  = "accuracy"', 'metric  = "log_loss"'))
    good = drawn_run(1.6, 0)
    for seed in range(1, 5):
        drawn_run(30.0, seed, f"epochs={seed}")
    jobs = [make_job("shapes"), *(make_job("shapes", settings=[f"epochs={seed}"]) for seed in range(1, 5))]
    made = blend.run(jobs, "best")
    assert made.score["way"] != "mean" and made.score["cv_score"] < made.score["ways"]["mean"]["honest"] - 0.1
    assert made.score["cv_score"] > good.score["cv_score"] - 0.05
    assert made.score["without"][0]["adds"] > 0.2 > made.score["without"][1]["adds"]
    assert made.oof is not None
    honest = log_loss(made.oof["target"], made.oof[["p_circle", "p_square"]])
    assert made.score["ways"][made.score["way"]]["honest"] == pytest.approx(honest, abs=0.1)
    table = submit.run(replace(jobs[0], call=Call("shapes", blend="best")))
    assert table is not None and len(table) == 11


def test_what_cannot_be_blended_is_said(split: Paths, failure: Failure) -> None:
    drawn_run(1.0, 0)
    drawn_run(1.0, 1, "epochs=2", folds="0,1")
    assert "at least two different runs" in failure("tools.blend", "--runs", "tiny", "tiny")
    message = failure("tools.blend", "--runs", "tiny", "tiny~epochs=2~folds=0,1")
    assert "tiny~epochs=2~folds=0,1 has folds 0, 1, but tiny has folds 0, 1, 2" in message
    drawn_run(1.0, 1, "epochs=2")
    assert "could be the name of a run" in failure("tools.blend", "--runs", "tiny", "tiny~epochs=2", "--name", "lenet")
    assert "cannot be the name of a blend" in failure("tools.blend", "--runs", "tiny", "tiny~epochs=2", "--name", "a/b")
    (split.run("tiny") / "fold0" / "oof.npz").unlink()
    assert "are out of date" in failure("tools.blend", "--runs", "tiny", "tiny~epochs=2")
