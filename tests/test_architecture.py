"""Import rules between the folders of pipeline/, and limits of their size."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PIPELINE = Path(__file__).parents[1] / "pipeline"
STAGES = ["prepare", "manifest", "folds", "train", "predict", "ensemble", "submit"]
#: A room may import itself and the rooms below it. Stages, tools and the driver are on top, apart from each other.
FLOORS = {
    "system": 0,
    "formats": 1,
    "tasks": 1,
    "records": 2,
    "pixels": 3,
    "learner": 4,
    "report": 5,
    "tools": 6,
    "driver": 6,
}
TOP = 6


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


def fault_of(place: str, name: str) -> str:
    """What is wrong with the import of ``name`` in the file at ``place`` (below pipeline/), "" if nothing is."""
    room, part = place.split("/")[0] if "/" in place else "", name.split(".")[1]
    if part not in FLOORS:
        return f"{place} imports the stage {part}"
    floor = FLOORS.get(room, TOP)
    is_beside = FLOORS[part] == TOP and part != room and place != "__main__.py"
    return f"{place} imports up, from {part}" if FLOORS[part] > floor or is_beside else ""


def test_imports_go_down_and_no_stage_imports_a_stage() -> None:
    files = sorted(PIPELINE.rglob("*.py"))
    assert len(files) > 70
    for path in files:
        place = path.relative_to(PIPELINE).as_posix()
        assert [fault for name in sorted(imports_of(path)) if (fault := fault_of(place, name))] == []


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("system/files.py", "pipeline.records.paths"),
        ("system/deep/er/files.py", "pipeline.formats.archives"),
        ("records/deep/task.py", "pipeline.learner.inputs"),
        ("pixels/cache.py", "pipeline.learner.models"),
        ("learner/models.py", "pipeline.tools.doctor"),
        ("tools/html/page.py", "pipeline.driver.plan"),
        ("train.py", "pipeline.tools.doctor"),
        ("train.py", "pipeline.predict"),
        ("driver/verbs.py", "pipeline.train"),
    ],
)
def test_an_import_that_goes_up_is_found_at_every_depth(place: str, name: str) -> None:
    assert fault_of(place, name)


def test_no_room_is_missing_from_the_rule() -> None:
    rooms = {path.parent.relative_to(PIPELINE).parts[0] for path in PIPELINE.rglob("*/*.py")}
    assert rooms == set(FLOORS)


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


def test_files_functions_and_the_loop_stay_readable() -> None:
    """At most 300 lines a file, a quarter of all lines a room, six parameters a function, 60 lines the loop."""
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in PIPELINE.rglob("*.py")}
    assert {path.name: number for path, number in lines.items() if number > 300} == {}
    for room in FLOORS:
        of_room = sum(number for path, number in lines.items() if path.is_relative_to(PIPELINE / room))
        assert of_room <= sum(lines.values()) / 4, room
    for path in lines:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                arguments = node.args
                named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
                assert len(named) <= 6, f"{path}: {node.name} has {len(named)} parameters"
    loop = next(
        node
        for node in ast.walk(ast.parse((PIPELINE / "train.py").read_text(encoding="utf-8")))
        if isinstance(node, ast.For) and ast.unparse(node.target) == "epoch"
    )
    assert loop.end_lineno is not None and loop.end_lineno - loop.lineno < 60


def test_names_that_scripts_outside_use_stay() -> None:
    from pipeline.pixels.augment import eval_transforms
    from pipeline.pixels.decode import decode, inspect
    from pipeline.records.recipe import Recipe, load_recipe

    assert all(map(callable, (eval_transforms, decode, inspect, Recipe, load_recipe)))


def test_importing_changes_no_signal_handler_and_fakes_no_module() -> None:
    code = (
        "import signal, sys; before = [signal.getsignal(n) for n in signal.valid_signals()]; "
        "import pipeline.prepare, pipeline.manifest, pipeline.folds, pipeline.train, pipeline.predict, "
        "pipeline.ensemble, pipeline.submit, pipeline.__main__, pipeline.tools.classify, pipeline.driver.cluster; "
        "assert before == [signal.getsignal(n) for n in signal.valid_signals()]; "
        "assert all(module is None or getattr(module, '__spec__', None) is None or module.__name__ == name "
        "for name, module in sys.modules.items() if name.startswith('pipeline'))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


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
        "import sys; before = {*sys.modules}; import pipeline.driver.main; "
        "new = {name.partition('.')[0] for name in {*sys.modules} - before}; "
        "print(*new - {*sys.stdlib_module_names, '__mp_main__'})"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["pipeline"]
