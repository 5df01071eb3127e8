"""The doctor names what is half done, locked, stale or does not fit, and what to type; and changes nothing."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import pipeline.train
from pipeline.pixels.cache import open_pixels, readable_rows
from pipeline.records.paths import Paths
from pipeline.records.tables import read_manifest
from pipeline.system.locks import owned
from pipeline.system.places import CHECKOUT
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
    assert said("ok") == ["shapes: not started -> make submit COMPETITION=shapes"]
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
    assert said("fix") == []
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
        (found,) = said("fix")
        assert f"{name} is damaged or missing -> " in found
        path.write_bytes(content)

    with owned(shapes.fold("tiny", 1) / "lock"):
        assert "is working there" in said("note")[0]
    rows = readable_rows(read_manifest(shapes.manifest))
    open_pixels(shapes, rows.iloc[1:], 24, "train")
    dead = subprocess.Popen(["true"])
    dead.wait()
    (shapes.home / f".folds.tmp-{HOST}-{dead.pid}-1.csv").touch()
    shutil.copytree(shapes.fold("tiny", 1) / "checkpoints", shapes.fold("tiny", 0) / "checkpoints")
    notes = said("note")
    assert any("was made from other images -> rm data/shapes/cache/side24-" in note for note in notes)
    assert any("fold0 is trained but still has checkpoints -> rm -r" in note for note in notes)
    assert any("1 half-written file of dead processes" in note for note in notes)

    shapes.folds.write_text(
        shapes.folds.read_text().replace(",0\n", ",9\n").replace(",1\n", ",0\n").replace(",9\n", ",1\n")
    )
    (misfit,) = said("fix")
    assert misfit.startswith("data/shapes/runs/tiny was made with other folds: it will be refused -> restore them, or")
    shapes.toml.write_text("title =")
    assert "shapes: data/shapes/competition.toml is not valid TOML" in said("fix")[0]


def test_packages_beside_the_constraints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.tools.doctor.CHECKOUT", tmp_path)
    (tmp_path / "constraints.txt").write_text("numpy==1.0 ; python_version < '3'\nnumpy==0.9\nnot-installed==3\n")
    drift, _ = packages()
    assert drift.level == "note" and "1 package not as in constraints.txt: numpy" in drift.text
    assert drift.text.endswith("instead of 0.9/1.0") and "make setup" in drift.advice
    monkeypatch.setattr("pipeline.tools.doctor.installed", lambda _: None)
    assert list(packages()) == [Finding("fix", "the packages are not installed yet", "make setup")]


def run_doctor(*paths: Path, root: Path, **environment: str) -> str:
    """What the doctor says with these folders before the installed packages."""
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.tools.doctor"], cwd=CHECKOUT, capture_output=True, text=True,
        env={**os.environ, "FOLDWISE_ROOT": str(root), "PYTHONPATH": os.pathsep.join(map(str, paths)), **environment},
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode == ("  fix   " in done.stdout)
    return done.stdout


def test_the_doctor_sees_a_wrong_opencv(shapes: Paths, root: Path, tmp_path: Path) -> None:
    """Both wheels of different versions, by a made-up record of one; and a build whose library is missing."""
    assert "nothing to fix" in run_doctor(root=root)
    fake = tmp_path / "fake" / "opencv_python_headless-4.9.0.80.dist-info"
    fake.mkdir(parents=True)
    (fake / "METADATA").write_text("Metadata-Version: 2.1\nName: opencv-python-headless\nVersion: 4.9.0.80\n")
    said = run_doctor(fake.parent, root=root)
    assert "opencv-python-headless 4.9.0.80: two versions in one folder" in said and "pip uninstall -y opencv" in said
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "cv2.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file')")
    said = run_doctor(broken, root=root)
    assert "cannot be imported: ImportError: libGL.so.1" in said and "make setup" in said
