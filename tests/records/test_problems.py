"""What is found about single files."""

from __future__ import annotations

import pandas as pd

from pipeline.records.problems import find_identical


def test_identical_images_are_told_apart_by_split_and_label() -> None:
    manifest = pd.DataFrame(
        [
            ("a", "train", "cat", "1"),
            ("b", "train", "cat", "1"),
            ("c", "train", "dog", "1"),
            ("d", "test", "", "1"),
            ("e", "test", "", ""),
            ("f", "test", "", ""),
        ],
        columns=["path", "split", "label", "sha256"],
    )
    found = {problem.path: problem.problem for problem in find_identical(manifest)}
    assert found == {"b": "identical", "c": "identical with another label", "d": "identical in train and test"}
