"""Known labels of test images: checked early, and never in the way of a submission."""

from __future__ import annotations

import pandas as pd
import pytest

from pipeline.records.known_labels import known_labels, read_known_labels
from pipeline.records.paths import Paths
from pipeline.system.errors import InputError
from pipeline.tasks.kinds import TASKS
from tests.conftest import Edit, Stage
from tests.records.test_labels import facts

TASK = TASKS["classification"](["cat", "dog"], " ")
IDS = pd.Series(["1", "2", "3", "4"])


def known(*rows: tuple[str, str]) -> tuple[dict[str, str], list[str]]:
    found = known_labels(pd.DataFrame(rows, columns=["id", " label"]), IDS, TASK, Paths("digits").test_labels)
    return dict(found.labels), found.faults


def test_valid_rows_are_used_and_the_others_named() -> None:
    labels, faults = known(("1", "cat"), ("2", " Dog "), ("3", ""), ("4", "bird"), ("99", "whale"))
    assert labels == {"1": "cat", "2": "dog"}
    assert len(faults) == 1 and "for 2 ids, such as '3' (its label is empty)" in faults[0]


def test_an_id_twice_is_left_out_unless_its_labels_agree() -> None:
    labels, faults = known(("1", "cat"), ("1", "dog"), ("2", "dog"), ("2", "dog"))
    assert labels == {"2": "dog"} and "several labels for the id '1'" in faults[0]


def test_the_column_with_the_name_of_the_target_holds_the_labels() -> None:
    table = pd.DataFrame({"id": ["1"], "age": ["33"], "score": ["0.5"]})
    task = TASKS["regression"](["score"], " ")
    assert dict(known_labels(table, IDS, task, Paths("digits").test_labels).labels) == {"1": "0.5"}
    table = pd.DataFrame({"id": ["1"], "other": ["dog"], "label": ["cat"]})
    found = known_labels(table, IDS, TASK, Paths("digits").test_labels, ["label"])
    assert dict(found.labels) == {"1": "cat"}


def test_a_file_that_cannot_be_used_is_a_fault_and_no_error(root: object) -> None:
    for table, said in (
        (pd.DataFrame({"id": ["1"]}), "has only 'id'"),
        (pd.DataFrame({"id": ["x"], "label": ["cat"]}), "none of the test ids, such as '1'"),
    ):
        with pytest.raises(InputError, match=said):
            known_labels(table, IDS, TASK, Paths("digits").test_labels)
    competition = facts(test={"pattern": "(?P<id>.)", "labels": "nowhere.csv"}, submission={"columns": ["id", "label"]})
    found = read_known_labels(IDS, TASK, competition, Paths("digits"))
    assert found is not None and found.labels.empty and "nowhere.csv" in found.faults[0]


def test_the_manifest_stage_says_what_is_wrong(
    shapes: Paths, stage: Stage, edit: Edit, capsys: pytest.CaptureFixture[str]
) -> None:
    (shapes.raw / "known.csv").write_text("id,label\n1,square\n2,\n3,squares\n")
    edit("[folds]", 'labels = "known.csv"\n[folds]')
    stage("manifest")
    assert "no label for 2 ids, such as '2'" in capsys.readouterr().out
