"""The verbs beside the stages."""

from __future__ import annotations

from pathlib import Path

from tests.checkouts import make
from tests.driver.made import commands


def test_clean_removes_what_is_ours(drawn: Path) -> None:
    checkout = drawn.parents[1]
    drawn.rename(drawn.with_name("bench"))
    home = drawn.with_name("bench")
    mine = [home / "dry" / "mine.png", home / "cache" / "mine.txt", checkout / "data" / "other" / "cache" / "x.u8"]
    ours = [
        home / "cache" / "side24-0123456789ab.u8",
        home / "dry" / "runs" / "tiny" / "log.csv",
        home / "dry" / "folds.csv",
        home / "dry" / "ledger.csv",
        home / "dry" / "blends" / "best" / "oof.npz",
        home / "reproduced" / "tiny" / "data" / "x.csv",
    ]
    for path in [*mine, *ours]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    make(checkout, "-n", "clean")
    assert all(path.exists() for path in ours)
    assert make(checkout, "clean").returncode == 0
    assert all(path.exists() for path in mine) and not any(path.exists() for path in ours)
    assert len(list(home.glob("raw/**/*.png"))) == 71


def test_tools_get_the_names_that_were_typed(checkout: Path) -> None:
    assert commands(checkout, "compare", "A=tiny", "B=two words") == [
        "tools.compare --competition=digits --first=tiny '--second=two words'"
    ]
    assert commands(checkout, "runs", "SCORE=a=0.5", "DRY=1") == [
        "tools.runs --competition=digits --dry-run --score=a=0.5"
    ]
    assert commands(checkout, "report") == ["tools.report --competition=digits --all-runs"]
    assert commands(checkout, "report", "BLEND=a+b") == ["tools.report --competition=digits --blend=a+b"]
    assert commands(checkout, "report", "RECIPE=digits", "FOLDS=0", "DEVICE=cpu") == [
        "tools.report --competition=digits --recipe=digits --folds 0 --device cpu"
    ]
    answer = make(checkout, "-n", "compare", "A=tiny")
    assert answer.returncode and "needs the names of two runs" in answer.stderr
