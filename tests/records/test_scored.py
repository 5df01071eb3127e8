"""Predictions that are read again have the score that they were given."""

from __future__ import annotations

import pytest

from pipeline.records.competition import load_competition
from pipeline.records.paths import Paths
from pipeline.records.runs import read_tables
from pipeline.records.scored import load_scored, trainings_by_seed
from pipeline.system.errors import FoldwiseError
from tests.runs import drawn_run


def test_rows_are_read_with_their_score_and_their_seeds_are_found(split: Paths) -> None:
    made = drawn_run(1.5, 0)
    drawn_run(1.5, 1, "seed=1")
    drawn_run(1.5, 2, "epochs=9")
    drawn_run(1.5, 3, "seed=2", folds="0")
    tables = read_tables(split, load_competition(split))
    scored = load_scored(split, tables, "tiny")
    assert tables.metric(scored.truth, scored.values) == made.score["cv_score"]
    by_seed = trainings_by_seed(split, tables, scored)
    assert [*by_seed] == ["tiny", "tiny~seed=1"]  # not the run with other epochs, nor the one with a fold only
    assert (by_seed["tiny"] == scored.values).all() and (by_seed["tiny~seed=1"] != scored.values).any()
    few = scored.only(scored.rows["image_id"].iloc[[5, 2]])
    assert list(few.rows["image_id"]) == list(scored.rows["image_id"].iloc[[5, 2]]) and len(few.values) == 2


def test_predictions_of_other_folds_are_refused(split: Paths) -> None:
    drawn_run(1.5, 0)
    tables = read_tables(split, load_competition(split))
    split.folds.write_text(split.folds.read_text() + "\n")
    with pytest.raises(FoldwiseError, match="'tiny' was made with other folds than data/shapes/folds"):
        load_scored(split, tables, "tiny")
