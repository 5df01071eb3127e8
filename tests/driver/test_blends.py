"""What a blend brings up to date."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.driver.blends import blend
from pipeline.driver.options import read_options
from pipeline.records.paths import Paths
from pipeline.system.errors import FoldwiseError
from tests.runs import drawn_run


def planned(capsys: pytest.CaptureFixture[str], verb: str, *words: str) -> list[str]:
    """The commands that would run."""
    capsys.readouterr()
    blend(read_options(["COMPETITION=shapes", "-n", *words], {}), verb)
    lines = capsys.readouterr().out.splitlines()
    return [line.split("pipeline.")[1] for line in lines if "    python" in line]


def test_a_blend_and_its_submission_run_after_its_runs(split: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    drawn_run(1.0, 0, "epochs=1")
    drawn_run(1.0, 1, "epochs=2")
    runs = "RUNS=tiny~epochs=1 tiny~epochs=2"
    assert planned(capsys, "submit", runs, "BLEND=best") == [
        "tools.blend --competition=shapes --name=best --runs 'tiny~epochs=1' 'tiny~epochs=2'",
        "submit --competition=shapes --blend=best",
    ]
    (split.run("tiny~epochs=1") / "fold1" / "oof.npz").unlink()  # its fold is predicted again, then combined
    stages = [line.split()[0] for line in planned(capsys, "blend", runs)]
    assert stages == ["predict", "ensemble", "tools.blend"]


def test_a_blend_trains_nothing(split: Paths) -> None:
    drawn_run(1.0, 0, "epochs=1")
    for names, message in {
        "tiny~epochs=1 lenet": "folds 0, 1, 2 of lenet are not trained; type: make ensemble COMPETITION=shapes",
        "tiny~epochs=1 nothing": "there are no predictions 'nothing' of shapes",
    }.items():
        with pytest.raises(FoldwiseError, match=message):
            blend(read_options(["COMPETITION=shapes", f"RUNS={names}"], {}), "blend")
    with pytest.raises(FoldwiseError, match="there is no blend best \\(there is none\\)"):
        blend(read_options(["COMPETITION=shapes", "BLEND=best"], {}), "submit")
    assert not (Path("data") / "shapes" / "runs" / "lenet").exists()
