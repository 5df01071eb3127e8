"""The ledger keeps everything that was made."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline.records.ledger import COLUMNS, add_row, number_in, parse_leaderboard, read_ledger
from pipeline.records.paths import Paths
from pipeline.system.errors import FoldwiseError
from tests.runs import drawn_run


def test_each_run_adds_a_row(split: Paths) -> None:
    assert read_ledger(split).empty
    made = drawn_run(1.0, 0)
    drawn_run(1.0, 0, folds="0,1")
    ledger = read_ledger(split)
    assert list(ledger.columns) == list(COLUMNS)
    assert list(ledger["name"]) == ["tiny", "tiny~folds=0,1"] and list(ledger["folds"]) == ["3 of 3", "2 of 3"]
    assert number_in(ledger.iloc[0], "score") == made.score["cv_score"] and ledger["metric"][0] == "accuracy"
    assert number_in(ledger.iloc[0], "seconds") == 6 and number_in({**ledger.iloc[0], "low": ""}, "low") is None


def test_rows_written_at_once_do_not_mix(split: Paths) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: add_row(split, "run", f'a "name", {number}', score=number), range(40)))
    ledger = read_ledger(split)
    assert sorted(ledger["score"].astype(int)) == list(range(40))
    assert {*ledger["name"]} == {f'a "name", {number}' for number in range(40)}


def test_a_file_that_is_no_ledger_is_named(split: Paths) -> None:
    split.ledger.write_text("a,b\n1,2\n")
    with pytest.raises(FoldwiseError, match=r"ledger\.csv has no column 'when'"):
        read_ledger(split)
    with pytest.raises(FoldwiseError, match="'much' in the column score of the row 'x' of 2026 is not a number"):
        number_in({"score": "much", "name": "x", "when": "2026"}, "score")


def test_the_score_is_what_is_after_the_last_equals_sign() -> None:
    assert parse_leaderboard("resnet18~epochs=60=0.4512") == ("resnet18~epochs=60", 0.4512)
    for text in ("resnet18", "=0.5", "resnet18=much", "resnet18=nan"):
        with pytest.raises(FoldwiseError, match="is not a name and its score"):
            parse_leaderboard(text)
