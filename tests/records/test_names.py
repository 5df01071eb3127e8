"""Names of runs and folds."""

from __future__ import annotations

import pytest

from pipeline.records.names import ALL_ROWS, MAX_RUN_NAME_BYTES, Members, parse_folds, run_name
from pipeline.system.errors import FoldwiseError


def test_a_long_set_makes_a_short_name_of_its_own() -> None:
    settings = [f"augment.color_jitter.key{number}=0.{number}" for number in range(20)]
    name = run_name("resnet18", settings)
    assert len(name.encode()) <= MAX_RUN_NAME_BYTES and name.startswith("resnet18~augment.color_jitter.key0=0.0")
    assert run_name("resnet18", settings[::-1]) == name
    others = {run_name("resnet18", [*settings[:19], f"z={number}"]) for number in range(100)}
    assert len(others) == 100 and name not in others
    assert len(run_name("x", ["größe=" + "ß" * 30] * 9).encode()) <= MAX_RUN_NAME_BYTES
    assert run_name("tiny", ["lr=1e-3", "epochs=2"]) == "tiny~epochs=2~lr=1e-3"
    most = list(range(99))
    assert len(Members(most, 100, 100).name(name, ".csv")) < 200
    assert Members(most, 100).name(name) != Members([*most[1:], 99], 100).name(name)


def test_names_of_what_is_made_from_some_members() -> None:
    assert Members([0, 1], 2).name("test", ".csv") == "test.csv"
    assert Members([0, 1], 3, 2).name("test", ".csv") == "test~folds=0,1~seeds=2.csv"
    alone = Members(parse_folds("all", 3), 3)
    assert alone.folds == [ALL_ROWS] and alone.name("test", ".csv") == "test~all.csv" and not alone.partial
    assert alone.twin.name("test") == "test"


def test_names_of_runs() -> None:
    assert run_name("resnet18", []) == "resnet18"
    assert run_name("resnet18", ["lr=1e-3", "epochs=2"]) == "resnet18~epochs=2~lr=1e-3"
    assert "/" not in run_name("resnet18", ["model=torchvision/resnet18"])


def test_folds_asked_for() -> None:
    assert parse_folds("", 3) == [0, 1, 2]
    assert parse_folds("2,0", 3) == [0, 2]
    for text in ("3", "x", "-1", "0,all"):
        with pytest.raises(FoldwiseError, match="folds 0 to 2"):
            parse_folds(text, 3)
