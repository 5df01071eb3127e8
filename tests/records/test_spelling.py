"""Names that look the same."""

from __future__ import annotations

import pytest

from pipeline.records.spelling import alike, look_alikes, plain


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Caf\u00e9", "cafe\u0301"),
        ("cat", "Cat "),
        ("black  cat", "black\u00a0cat"),
        ("cat", "c\u200bat"),
        ("1", "1.0"),
        ("stra\u00dfe", "STRASSE"),
    ],
)
def test_texts_that_look_the_same_are_alike(one: str, other: str) -> None:
    assert one != other and alike(one) == alike(other)


@pytest.mark.parametrize(("one", "other"), [("cat", "cats"), ("1", "10"), ("a_b", "ab"), ("1_0", "10"), ("", "0")])
def test_other_texts_are_not(one: str, other: str) -> None:
    assert alike(one) != alike(other)


def test_only_blanks_at_the_ends_and_the_unicode_form_are_changed() -> None:
    assert plain(" Cafe\u0301 x ") == "Caf\u00e9 x"
    assert look_alikes(["Cat", "dog", "cat", "bird"]) == [["Cat", "cat"]]
