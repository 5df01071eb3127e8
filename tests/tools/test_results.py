"""The table of the tutorials comes from submissions, and keeps what it cannot make anew."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.records.paths import RECIPES
from pipeline.system import places
from pipeline.tools import results
from pipeline.tools.results import ROWS, Row, records, table


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with a competition and no submissions."""
    monkeypatch.setattr(places, "ROOT", tmp_path)
    (tmp_path / "data" / "signs").mkdir(parents=True)
    (tmp_path / "data" / "signs" / "competition.toml").write_text(
        'title = "x"\nrecipe = "signs"\n[train]\nlabels = "folders"\n'
    )
    monkeypatch.setattr(
        results, "ROWS", [Row("1 signs", "94 %", "ours", "signs"), Row("", "", "other", "signs", "cnn")]
    )
    return tmp_path


def submit(place: Path, name: str, accuracy: float) -> None:
    """What the last stage writes."""
    score = {
        "cv_score": accuracy, "accuracy": accuracy, "metric": "accuracy", "train_score": 1.0, "training_seconds": 90.0,
        "device": "cpu",
    }  # fmt: skip
    path = place / "submissions" / "signs" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"test_score": accuracy - 0.01, "score": score}))


def test_rows_are_made_of_all_seeds_and_the_others_stay(place: Path) -> None:
    empty = table("")
    assert empty.count("not run yet") == 2
    submit(place, "signs", 0.95)
    submit(place, "signs~seed=1", 0.97)
    submit(place, "signs~folds=0", 0.5)  # a part of the folds is another thing
    first, second = table(empty).splitlines()[2:]
    assert "accuracy 0.9600 ± 0.0141 | 0.9500 ± 0.0141 | 1.0000" in first and "2 (CPU) | 1 min 30 s" in first
    assert "`make submit COMPETITION=signs`" in first and "not run yet" in second
    (place / "submissions").rename(place / "gone")
    assert table(table(empty)) == empty
    kept = "\n".join([*empty.splitlines()[:2], first, second])
    assert table(kept).splitlines()[2] == first


def test_every_row_names_what_ships() -> None:
    for row in ROWS:
        assert list(records(row)) is not None and row.command.startswith("make submit COMPETITION=")
        assert (RECIPES / f"{row.recipe}.toml").exists() or not row.recipe
