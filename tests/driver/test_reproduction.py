"""A submission is built again in a folder of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.driver.options import read_options
from pipeline.driver.reproduction import commands, reproduce, set_up
from pipeline.records.paths import Paths
from pipeline.system.errors import FoldwiseError
from pipeline.system.files import write_json


def test_the_folder_holds_what_is_the_users_and_nothing_that_was_made(split: Paths, tmp_path: Path) -> None:
    (split.home / "my_groups.csv").write_text("a")
    (split.home.parent / "weights").mkdir()
    base = split.reproduced("tiny")
    for _ in range(2):  # also if it was interrupted
        set_up(split, base)
    home = base / "data" / "shapes"
    mine = {"competition.toml", "raw", "images", "prepared.json", "my_groups.csv"}
    assert {path.name for path in home.iterdir()} == mine
    assert (home / "raw").is_symlink() and not (home / "competition.toml").is_symlink()
    assert (base / "data" / "weights").is_symlink()


def test_changed_data_are_unpacked_again_elsewhere(plain: Paths) -> None:
    """The unpacked images of the first run are not touched."""
    base = plain.reproduced("tiny")
    set_up(plain, base)
    assert {path.name for path in (base / "data" / "shapes").iterdir()} == {"competition.toml", "raw"}


def test_the_commands_are_those_that_made_it() -> None:
    call = {"competition": "shapes", "recipe": "tiny", "settings": ["epochs=2", "a=b c"], "folds": "0,1", "seeds": 2}
    assert [*commands({"call": call, "score": {}})] == [
        ["submit", "COMPETITION=shapes", "RECIPE=tiny", "SET=epochs=2 'a=b c'", "FOLDS=0,1", "SEEDS=2"]
    ]
    about = {
        "call": {"competition": "shapes", "blend": "best", "dry_run": True},
        "score": {"members": ["tiny", "lenet~folds=0"], "calls": [{**call, "later": 1}, {"competition": "shapes"}]},
    }
    first, second, last = commands(about)
    assert first[0] == second[0] == "ensemble" and first[-1] == second[-1] == "DRY=1"
    assert last == ["submit", "COMPETITION=shapes", "BLEND=best", "RUNS=tiny lenet~folds=0", "DRY=1"]


def test_what_cannot_be_built_again_is_said(split: Paths) -> None:
    for content, message in (
        ({}, "there is no submission 'x' of shapes; none was made yet"),
        ({"test": "folder"}, "is of another test folder"),
        ({"rows": 3}, "does not say how it was made"),
    ):
        if content:
            write_json(
                split.submission("x").with_name("x.json"), {"submission": "x.csv", "submission_sha256": "", **content}
            )
        with pytest.raises(FoldwiseError, match=message):
            reproduce(read_options(["COMPETITION=shapes", "SUBMISSION=x.csv", "-n"], {}))


def test_an_attempt_that_began_from_something_else_begins_anew(
    split: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    base = split.reproduced("tiny")
    set_up(split, base)
    trained = base / "data" / "shapes" / "runs" / "tiny" / "weights"
    trained.mkdir(parents=True)
    set_up(split, base)  # after an interruption
    assert trained.exists() and "begins anew" not in capsys.readouterr().out
    split.toml.write_text(split.toml.read_text().replace("seed = 42", "seed = 43"))
    set_up(split, base)
    assert not trained.exists() and "begins anew" in capsys.readouterr().out
    assert (split.home / "raw" / "train").is_dir()  # links were removed, not what they lead to


def test_other_variables_have_no_effect(split: Paths) -> None:
    write_json(split.submission("x").with_name("x.json"), {"submission": "x.csv", "submission_sha256": "", "call": {}})
    with pytest.raises(FoldwiseError, match="so SEEDS has no effect; leave it out"):
        reproduce(read_options(["COMPETITION=shapes", "SUBMISSION=x", "SEEDS=2"], {}))
    twin = {"call": {"competition": "shapes", "recipe": "tiny", "folds": "all"}, "score": {"twin": "tiny"}}
    assert [words[0] for words in commands(twin)] == ["ensemble", "submit"]
