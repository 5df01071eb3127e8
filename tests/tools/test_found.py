"""Columns of labels and groups."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from pipeline.tools.found import showing, words_of
from pipeline.tools.looking import look
from tests.shapes import csv, pictures
from tests.tools.test_looking import found


def test_words_of_a_sample_show_the_column() -> None:
    sample = pd.DataFrame({"id": ["1", "2"], "x": ["a b 0.5", "c"]})
    assert words_of(sample) == {"a", "b", "c", "a b 0.5"}
    assert words_of(sample.assign(y="1")) == set() == words_of(None)
    assert showing(pd.DataFrame({"n": ["1", "2"], "k": ["a", "b"], "l": ["a", "c"]}), {"a", "b", "d"}) == ["k"]


def test_the_label_column_is_named_where_others_are_possible(root: Path) -> None:
    files = pictures(f"train/{n}.jpg" for n in range(12))
    files["train.csv"] = csv(
        "id,age,weight,species,site", ((n, n % 5, n, "ab"[n % 2], f"s{n // 3}") for n in range(12))
    )
    seen = look(found(root, files))
    assert (seen.label_column, seen.group_column) == ("species", "site")
    assert "age or weight" in seen.doubts["label_column"]
