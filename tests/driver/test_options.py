"""What is typed is taken literally, obeyed or refused."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

import pipeline.folds
import pipeline.train
from pipeline.driver.options import VARIABLES, Flags, make_flags, read_options
from pipeline.driver.plan import make_plan
from pipeline.system.errors import FoldwiseError
from tests.checkouts import make

CODE = [
    "$(shell touch pwned)", "$(touch pwned)", "$$(touch pwned)", "`touch pwned`", "x; touch pwned", "'; touch pwned; '",
    '"; touch pwned; "', "$(eval X:=$(shell touch pwned))", "${IFS}", "a\nb: ; touch pwned",
]  # fmt: skip


@pytest.mark.parametrize("name", [*VARIABLES, "PYTHON", "TESTS", "NO_SUCH_VARIABLE"])
def test_no_value_is_code(checkout: Path, name: str) -> None:
    """Typed on make's command line, or in the environment. (PYTHON is a command by its nature, but one word of it.)"""
    for code in CODE[:: 1 if name in ("SET", "IMAGE", "PYTHON") else 4]:
        for verb in ("folds", "classify"):
            typed = make(checkout, "-n", verb, f"{name}={code}")
            given = make(checkout, "-n", verb, **{name: code})
            assert not list(checkout.rglob("pwned")), (name, code)
            assert "Traceback" not in typed.stderr + given.stderr


def test_no_name_of_a_file_or_folder_is_code(drawn: Path) -> None:
    """Nor does it break anything: a colon, a pipe, a quotation mark, a line break, a letter outside ASCII."""
    checkout = drawn.parents[1]
    for name in (";touch${IFS}pwned", "$(touch pwned)", "a:b.png", "a|b", 'say "x"', "it's", "two\nlines", "größe %s"):
        (drawn / "raw" / name).touch()
    ended = make(checkout, "folds", "COMPETITION=shapes")
    assert ended.returncode == 0, ended.stderr
    strange = checkout / "data" / "$(touch pwned) größe 'x'"
    drawn.rename(strange)
    for verb in ("help", "doctor", "folds", "why"):
        ended = make(checkout, verb, f"COMPETITION={strange.name}")
        assert ended.returncode == 0, ended.stderr
    assert "nothing to do" in make(checkout, "folds", f"COMPETITION={strange.name}").stdout
    assert not list(checkout.rglob("pwned"))


def test_a_quotation_mark_in_the_name_of_an_image(checkout: Path) -> None:
    for name in ("it's.png", 'a "b".png', "-x.png", "größe.png"):
        ended = make(checkout, "classify", f"IMAGE={name}")
        assert ended.returncode == 2 and f"there is no '{name}'" in ended.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["DRY=maybe"], "DRY=maybe is neither on nor off; write DRY=1 or DRY=0"),
        (["FORCE=2"], "FORCE=2 is neither on nor off"),
        (["HOURS=nan"], "HOURS=nan is not a number of hours, such as HOURS=8.5"),
        (["HOURS=inf"], "HOURS=inf is not a number of hours"),
        (["HOURS=-1"], "HOURS=-1 is not a number of hours"),
        (["HOURS=0"], "HOURS=0 is not a number of hours"),
        (["SET=--help"], "a setting is key=value, such as epochs=2, not '--help'"),
        (["SET=epochs"], "a setting is key=value, such as epochs=2, not 'epochs'"),
        (["SET=epochs=2 lr=1 epochs=3"], "the setting 'epochs' is given 2 times; give it once"),
        (["SET=a='b"], "lacks a closing quotation mark"),
        (["WORKERS=-1"], "WORKERS=-1 is not a number of loader processes from 0 to"),
        (["WORKERS=999"], "WORKERS=999 is not a number of loader processes from 0 to"),
        (["WORKERS=two"], "WORKERS=two is not a number"),
        (["DEVICE=gpu"], "unknown DEVICE=gpu; known: auto, cpu, cuda, cuda:1, mps"),
        (["FOLD=0", "FOLDS=1"], "FOLD and FOLDS are both given"),
        (["FOLD=0", "FOLD=1"], "FOLD is given twice"),
        (["RECIPIE=tiny"], "'RECIPIE=tiny' is not a known NAME=value, such as FOLD=0; did you mean 'RECIPE'?"),
        (["fast"], "'fast' is not a known NAME=value"),
        (["COMPETITION", "x"], "COMPETITION has no value; write COMPETITION=..., without a space"),
    ],
)
def test_a_value_that_cannot_be_obeyed_is_refused(words: list[str], said: str) -> None:
    with pytest.raises(FoldwiseError) as fault:
        read_options(words, {})
    assert said in str(fault.value) and "\n" not in str(fault.value)


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [
        (["DRY=0"], "dry_run", False), (["DRY=1"], "dry_run", True), (["FORCE=0"], "force", False),
        (["FORCE="], "force", False), (["DETERMINISTIC=yes"], "deterministic", True), (["HOURS=8.5"], "hours", 8.5),
        (["WORKERS=0"], "workers", "0"), (["FOLD=3"], "folds", "3"), (["-n"], "plan_only", True),
        (["SET=epochs=2  model_args.names='a b'"], "settings", ["epochs=2", "model_args.names=a b"]),
        (["COMPETITION="], "competition", "digits"), (["COMPETITION=-x"], "competition", "-x"),
    ],
)  # fmt: skip
def test_a_value_is_obeyed(words: list[str], field: str, value: Any) -> None:
    assert getattr(read_options(words, {}), field) == value


def test_folds_that_name_none_or_one_that_there_is_not(checkout: Path) -> None:
    for text, said in (
        (",", "FOLDS=, lists no fold"),
        ("7", "fold 7 is out of range"),
        ("٣", "fold '٣' is not a number"),
    ):
        with pytest.raises(FoldwiseError, match=said):
            make_plan(read_options([f"FOLDS={text}"], {}))


def test_what_replaces_something_counts_only_where_it_is_typed() -> None:
    of_make = {"FORCE": "1", "DRY": "1", "COMPETITION": "x"}
    assert read_options([], of_make).competition == "digits"  # no make called
    options = read_options([], {**of_make, "FOLDWISE_MAKE": ""})
    assert (options.force, options.dry_run, options.competition) == (False, True, "x")
    assert read_options([], {**of_make, "FOLDWISE_MAKE": "COMPETITION FORCE"}).force


def test_the_environment_forces_nothing(checkout: Path) -> None:
    ended = make(checkout, "-n", "folds", FORCE="1")
    assert "note: FORCE is set in the environment and has no effect" in ended.stdout and "--force" not in ended.stdout
    assert "--force" in make(checkout, "-n", "folds", "FORCE=1").stdout


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        ("", Flags()), ("k", Flags(None, True)), ("Bkn -j3 --jobserver-auth=3,4 -- SET=nq\\ k", Flags(3, True, True)),
        (" -j --jobserver-auth=3,4", Flags(0)), ("--no-print-directory -- FOLD=n", Flags()), (" -- -j3", Flags()),
    ],
)  # fmt: skip
def test_flags_of_makes(text: str, flags: Flags) -> None:
    assert make_flags(text) == flags


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["COMPETITION=digts"], "did you mean 'digits'?"),
        (["RECIPE=resnet19"], "did you mean 'resnet18'?"),
        (["FOLDS=0,7"], "fold 7 is out of range"),
    ],
)
def test_make_refuses_before_it_does_anything(arguments: list[str], expected: str) -> None:
    checkout = Path(pipeline.train.__file__).parents[1]
    answer = subprocess.run(["make", "--dry-run", "submit", *arguments], cwd=checkout, capture_output=True, text=True)
    assert answer.returncode != 0
    assert expected in answer.stderr and "Traceback" not in answer.stderr
