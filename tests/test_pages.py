"""The pages: links lead somewhere, tests and commands that they name exist, the example runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.driver.options import VARIABLES, VERBS
from pipeline.system.places import CHECKOUT

PAGES = sorted(
    path
    for path in CHECKOUT.rglob("*.md")
    if not {".venv", "raw", "images"} & {*path.relative_to(CHECKOUT).parts} and "node_modules" not in path.parts
)


def anchor_of(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_the_first_page_is_short_and_every_part_has_one() -> None:
    assert len((CHECKOUT / "README.md").read_text(encoding="utf-8").splitlines()) <= 170
    for name in ("data", "pipeline", "pipeline/recipes", "pipeline/driver", "tests", "tests/benchmarks"):
        assert CHECKOUT / name / "README.md" in PAGES
        assert f"]({name}/README.md)" in (CHECKOUT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(CHECKOUT).as_posix())
def test_every_link_leads_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        found = (page.parent / file).resolve() if file else page
        assert found.exists(), f"{page}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", found.read_text(encoding="utf-8"), re.M)
            assert anchor in map(anchor_of, headings), f"{page}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(CHECKOUT).as_posix())
def test_every_command_has_a_known_verb_and_known_variables(page: Path) -> None:
    known = {*VERBS, "setup", "check", "check-gpu", "test", "chaos", "bench"}
    for command in re.findall(r"(?:^|`)make ([^\n`#|]+)", page.read_text(encoding="utf-8"), re.M):
        words = [word for word in command.split() if not word.startswith("-") and word.isascii()]
        names = {word.partition("=")[0] for word in words if re.match("[A-Z]+=", word)}
        assert names <= {*VARIABLES, "PYTHON", "FULL", "ONLY", "TINY"}, f"{page}: make {command}"
        if words and "=" not in words[0]:
            assert words[0].rstrip(".,;:") in known, f"{page}: make {command}"


def test_every_fault_of_the_table_has_a_test_that_exists() -> None:
    rows = re.findall(r"^\| (\d+) \|.*\| ([^|]+) \|$", (CHECKOUT / "tests" / "README.md").read_text("utf-8"), re.M)
    assert [int(number) for number, _ in rows] == list(range(1, 61))
    for number, tests in rows:
        named = re.findall(r"`([\w/.]+)::(\w+)`", tests)
        assert named, number
        for file, test in named:
            assert f"\ndef {test}(" in (CHECKOUT / "tests" / file).read_text(encoding="utf-8"), (number, file, test)


def test_every_file_of_the_code_has_a_test_file_of_its_name() -> None:
    pipeline = CHECKOUT / "pipeline"
    for path in pipeline.rglob("*.py"):
        if path.name not in ("__init__.py", "__main__.py"):
            place = path.relative_to(pipeline)
            assert (CHECKOUT / "tests" / place.with_name(f"test_{place.name}")).exists(), place


def test_the_example_for_python_runs(tmp_path: Path) -> None:
    """The block of pipeline/README.md as it is, in a process of its own."""
    page = (CHECKOUT / "pipeline" / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", page, re.S)
    checks = """
assert len(images) == 1797 and len(split) == 1437 and {*log["fold"]} == {0} and len(log) == 2
assert len(predictions[0]["test"].image_ids) == 360 == len(table) == len(result.test)
assert list(result.oof.columns[:3]) == ["id", "fold", "target"] and result.score["partial"]
"""
    environment = {**os.environ, "FOLDWISE_ROOT": str(tmp_path)}
    ended = subprocess.run(
        [sys.executable, "-c", example + checks], cwd=CHECKOUT, env=environment, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "submissions" / "digits").is_dir()
