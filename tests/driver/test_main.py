"""The command that make calls."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.checkouts import make


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("train", "RUNS=a b"), "RUNS is for make blend and make submit and make why, not for make train"),
        (("submit", "SCORE=x=1"), "SCORE is for make runs, not for make submit"),
        (("why", "TEST=folder"), "TEST is for make submit, not for make why"),
        (("submit", "BLEND=best", "RECIPE=tiny"), "leave out RECIPE, which has no effect beside it"),
        (("blend",), 'make blend needs the names of runs, such as RUNS="resnet18 lenet"'),
        (("reproduce",), "SUBMISSION=name"),
    ],
)
def test_a_name_for_another_verb_is_refused(checkout: Path, words: tuple[str, ...], message: str) -> None:
    answer = make(checkout, "-n", *words)
    assert answer.returncode and message in answer.stderr and "Traceback" not in answer.stderr


def test_names_of_one_letter_count_only_if_they_are_typed(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("A", "B", "RUNS", "BLEND", "SCORE", "SUBMISSION"):
        monkeypatch.setenv(name, "from the shell")
    assert make(checkout, "-n", "submit").returncode == 0
