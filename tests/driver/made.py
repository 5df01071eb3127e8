"""What stages would leave behind, made in no time."""

from __future__ import annotations

import re
from pathlib import Path

from pipeline.driver.plan import Plan
from pipeline.driver.steps import files_of_stage
from pipeline.records.up_to_date import StageFiles, prepare_files
from pipeline.system.files import write_json
from tests.checkouts import make


def commands(checkout: Path, *words: str) -> list[str]:
    """The stages that ``make words...`` would run, with their options, in order."""
    done = make(checkout, "-n", *words)
    assert done.returncode == 0, done.stderr
    return re.findall(r"    python -m pipeline\.(.*)", done.stdout)


def record(target: StageFiles, *made: Path) -> None:
    """Writes the record of a stage that made these files."""
    for path in made:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"made by the test: {path.name}")
    target.record.parent.mkdir(parents=True, exist_ok=True)
    write_json(target.record, target.new_record(target.hash_inputs(), made))


def split(plan: Plan) -> None:
    """As if all stages up to the folds had run."""
    record(prepare_files(plan.paths, plan.facts), plan.paths.images / "train" / "1_2.png")
    record(files_of_stage(plan, "manifest"), plan.paths.manifest, plan.paths.task)
    record(files_of_stage(plan, "folds"), plan.paths.folds)


def trained(plan: Plan, *folds: int) -> None:
    """As if these folds were trained."""
    for fold in folds:
        folder = plan.paths.fold(plan.run, fold)
        folder.mkdir(parents=True)
        for name in ("trained.json", "weights.safetensors"):
            (folder / name).write_text(f"{fold}")
