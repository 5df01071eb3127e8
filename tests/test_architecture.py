"""The house: who may import whom, and which stages answer without torch."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PIPELINE = Path(__file__).parents[1] / "pipeline"
STAGES = ["prepare", "manifest", "folds", "train", "predict", "ensemble", "submit"]
#: A room may import itself and the rooms below it; stages and tools stand on top.
FLOORS = {"records": 0, "pixels": 1, "learner": 2, "tools": 3, "driver": 3}


def imports_of(path: Path) -> set[str]:
    """Modules of pipeline that a file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.startswith("pipeline.")}


def test_imports_go_down_and_no_stage_imports_a_stage() -> None:
    files = sorted(PIPELINE.rglob("*.py"))
    assert len(files) > 25
    for path in files:
        room = path.parent.name
        floor = FLOORS.get(room, 3)
        for name in imports_of(path):
            part = name.split(".")[1]
            assert part in FLOORS, f"{path} imports the stage {part}"
            is_above = FLOORS[part] == 3 and part != room and path.name != "__main__.py"
            assert FLOORS[part] <= floor and not is_above, f"{path} imports up, from {part}"


@pytest.mark.parametrize("stage", ["prepare", "manifest", "folds", "ensemble", "submit"])
def test_stages_without_pixels_to_learn_from_never_import_torch(stage: str) -> None:
    code = f"import pipeline.{stage}, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("stage", STAGES)
def test_help_shows_examples(stage: str) -> None:
    shown = subprocess.run(
        [sys.executable, "-m", f"pipeline.{stage}", "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert f"make {stage}" in shown and f"python -m pipeline.{stage}" in shown


def test_the_loop_stays_readable() -> None:
    source = (PIPELINE / "train.py").read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 300


def test_one_version_of_both_opencv_wheels_and_no_host_in_constraints() -> None:
    constraints = (PIPELINE.parent / "constraints.txt").read_text()
    pins = dict(line.split("==") for line in constraints.splitlines() if line.startswith("opencv"))
    assert pins["opencv-python"] == pins["opencv-python-headless"]
    assert "http" not in constraints.replace("httpcore", "").replace("httpx", "")
    project = tomllib.loads((PIPELINE.parent / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == ">=3.11,<3.15"


def test_planning_imports_the_standard_library_alone() -> None:
    """So that "nothing to do" is said at once, and before anything is installed."""
    code = (
        "import sys; before = {*sys.modules}; import pipeline.driver.verbs; "
        "new = {name.partition('.')[0] for name in {*sys.modules} - before}; "
        "print(*new - {*sys.stdlib_module_names, '__mp_main__'})"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["pipeline"]
