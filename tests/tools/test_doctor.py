"""The doctor names what is half done, locked, stale or does not fit, and what to type; and changes nothing."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

import pipeline.train
from pipeline.pixels.cache import open_pixels, readable_rows
from pipeline.records.paths import Paths
from pipeline.records.tables import read_manifest
from pipeline.system.locks import owned
from pipeline.system.processes import HOST
from pipeline.system.signals import Stopped
from pipeline.tools.doctor import Finding, packages, project
from tests.conftest import Stage


def said(level: str) -> list[str]:
    """What the doctor finds of this level in the project, with its advice."""
    return [f"{finding.text} -> {finding.advice}" for finding in project() if finding.level == level]


def everything(root: Path) -> dict[str, str]:
    """sha256 of all files."""
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in root.rglob("*") if path.is_file()}


def test_a_project_from_nothing_to_a_run_that_does_not_fit_any_more(
    shapes: Paths, stage: Stage, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert said("ok") == ["shapes: not begun -> make submit COMPETITION=shapes"]
    for name in ("prepare", "manifest", "folds"):
        stage(name)
    stage("train", "--fold", "0")

    def interrupt(*_: object) -> None:
        raise Stopped

    with monkeypatch.context() as patched:
        patched.setattr(pipeline.train, "predict", interrupt)
        with pytest.raises(SystemExit):
            stage("train", "--fold", "1")
    before = everything(root)
    assert said("mend") == []
    (half,) = said("note")
    assert (
        half.startswith("data/shapes/runs/tiny/fold1: stopped after step 2")
        and "COMPETITION=shapes RECIPE=tiny" in half
    )
    assert everything(root) == before

    for name in ("fold0/weights.safetensors", "fold1/checkpoints/00000002/trainer.pt"):
        path = shapes.run("tiny") / name
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        (found,) = said("mend")
        assert f"{name} is damaged or missing -> " in found
        path.write_bytes(content)

    with owned(shapes.fold("tiny", 1) / "lock"):
        assert "is at work there" in said("note")[0]
    rows = readable_rows(read_manifest(shapes.manifest))
    open_pixels(shapes, rows.iloc[1:], 24, "train")
    dead = subprocess.Popen(["true"])
    dead.wait()
    (shapes.home / f".folds.tmp-{HOST}-{dead.pid}-1.csv").touch()
    shutil.copytree(shapes.fold("tiny", 1) / "checkpoints", shapes.fold("tiny", 0) / "checkpoints")
    notes = said("note")
    assert any("is of other images -> rm data/shapes/cache/side24-" in note for note in notes)
    assert any("fold0: is trained and keeps checkpoints -> rm -r" in note for note in notes)
    assert any("1 half-written file of dead processes" in note for note in notes)

    shapes.folds.write_text(
        shapes.folds.read_text().replace(",0\n", ",9\n").replace(",1\n", ",0\n").replace(",9\n", ",1\n")
    )
    (misfit,) = said("mend")
    assert misfit.startswith("data/shapes/runs/tiny was made with other folds: it will be refused -> put them back, or")
    shapes.toml.write_text("title =")
    assert "shapes: data/shapes/competition.toml is not valid TOML" in said("mend")[0]


def test_packages_beside_the_constraints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.tools.doctor.CHECKOUT", tmp_path)
    (tmp_path / "constraints.txt").write_text("numpy==1.0 ; python_version < '3'\nnumpy==0.9\nnot-installed==3\n")
    drift, _ = packages()
    assert drift.level == "note" and "1 package not as in constraints.txt: numpy" in drift.text
    assert drift.text.endswith("for 0.9/1.0") and "make setup" in drift.advice
    monkeypatch.setattr("pipeline.tools.doctor.installed", lambda _: None)
    assert list(packages()) == [Finding("mend", "the packages are not installed yet", "make setup")]
