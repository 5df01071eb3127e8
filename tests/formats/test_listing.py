"""The files that a folder holds."""

from __future__ import annotations

import os
from pathlib import Path

from tests.checkouts import make


def test_names_that_are_no_text(drawn: Path) -> None:
    checkout = drawn.parents[1]
    with open(os.fsencode(drawn / "raw") + b"/\xff.zip", "wb"):  # noqa: PTH123 (a Path takes no bytes)
        pass
    ended = make(checkout, "folds", "COMPETITION=shapes")
    assert ended.returncode == 2 and "a name that is not UTF-8 text, '\\udcff.zip'; rename it" in ended.stderr


def test_a_pipe_and_a_device_are_no_pictures(drawn: Path) -> None:
    toml = drawn / "competition.toml"
    toml.write_text(toml.read_text().replace("[test]", "max_bad = 0.1\n[test]"))
    os.mkfifo(drawn / "raw" / "train" / "circle_99.png")
    (drawn / "raw" / "train" / "circle_98.png").symlink_to("/dev/zero")
    (drawn / "raw" / "train" / "circle_97.png").symlink_to("nowhere.png")
    os.mkfifo(drawn / "raw" / "more.zip")
    ended = make(drawn.parents[1], "folds", "COMPETITION=shapes")
    assert ended.returncode == 0, ended.stderr
    assert (drawn / "problems.csv").read_text().count("a pipe or device, not a file") == 2
    assert "circle_97.png,unreadable,a link to a file that does not exist" in (drawn / "problems.csv").read_text()
    assert "nothing to do" in make(drawn.parents[1], "folds", "COMPETITION=shapes").stdout
