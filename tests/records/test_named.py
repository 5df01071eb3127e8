"""Predictions are found by the names that people see."""

from __future__ import annotations

import pytest

from pipeline.records.named import call_named, known_predictions, prediction_named
from pipeline.records.names import ALL_ROWS
from pipeline.records.paths import Paths
from pipeline.system.errors import FoldwiseError
from pipeline.system.files import write_record
from tests.runs import drawn_run


def test_a_run_is_found_by_its_name_and_gives_back_what_was_typed(split: Paths) -> None:
    drawn_run(1.0, 0, "model_args.width=8", "epochs=2")
    drawn_run(1.0, 0, folds="0,2")
    assert [*known_predictions(split)] == ["tiny~folds=0,2", "tiny~epochs=2~model_args.width=8"]
    call = call_named(split, "tiny~epochs=2~model_args.width=8")
    assert (call.recipe, [*call.settings], call.folds) == ("tiny", ["epochs=2", "model_args.width=8"], "")
    assert call_named(split, "tiny~folds=0,2").folds == "0,2"
    assert call_named(split, "lenet").recipe == "lenet"  # a recipe that may be combined later
    assert prediction_named(split, "tiny~folds=0,2").suffix == "~folds=0,2"


def test_a_wrong_name_lists_the_right_ones(split: Paths) -> None:
    with pytest.raises(FoldwiseError, match="there are no predictions 'x' of shapes; nothing is combined yet"):
        prediction_named(split, "x")
    drawn_run(1.0, 0)
    with pytest.raises(FoldwiseError, match="did you mean 'tiny'"):
        call_named(split, "tinny")
    of_all = {"run": "tiny", "folds": "all rows", "partial": False, "seeds": 1, "facts": {"SET": []}}
    write_record(split.fold("tiny", ALL_ROWS) / "score.json", of_all)
    assert "tiny~all" in known_predictions(split)
    with pytest.raises(FoldwiseError, match="'tiny~all' is trained on all rows, so that no out-of-fold rows"):
        call_named(split, "tiny~all")
