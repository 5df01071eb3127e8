"""The nearest known name, and numbers with their noun."""

from __future__ import annotations

import pytest

from pipeline.system.errors import count_of, suggestion


def test_the_nearest_name_is_suggested_else_all_are_listed() -> None:
    assert suggestion("resnet8", ["resnet18", "lenet"]) == "; did you mean 'resnet18'?"
    assert suggestion("zzz", ["b", "a"]) == "; known: a, b"
    assert suggestion("zzz", []) == "" and suggestion("zzz", map(str, range(100, 120))).endswith(", ...")


@pytest.mark.parametrize(
    ("number", "noun", "expected"),
    [(1, "image", "1 image"), (2, "image", "2 images"), (0, "class", "0 classes"), (1200, "entry", "1,200 entries")],
)
def test_a_number_with_its_noun(number: int, noun: str, expected: str) -> None:
    assert count_of(number, noun) == expected
