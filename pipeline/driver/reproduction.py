"""Builds a submission again from its JSON, in a folder of its own, and has it compared. Standard library only.

All stages run there from the start, as the JSON says: the same recipes, settings, folds and seeds. It takes as long as
the training did, and continues if it was interrupted.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from pipeline.driver.options import Options
from pipeline.driver.processes import run_one
from pipeline.records.command_line import Call
from pipeline.records.paths import Paths
from pipeline.records.up_to_date import prepare_files
from pipeline.system import places
from pipeline.system.console import say
from pipeline.system.errors import InputError, StaleError, suggestion
from pipeline.system.files import read_json
from pipeline.system.index import Index
from pipeline.system.places import shown

#: Names in the competition's folder that Foldwise makes; everything else there is the user's.
MADE = {
    "manifest.csv", "manifest.json", "task.json", "problems.csv", "contact_sheet.png", "test_labels.csv", "folds.csv",
    "folds.json", "cache", "runs", "blends", "dry", "reproduced", "ledger.csv",
}  # fmt: skip


def read_submission(paths: Paths, name: str) -> dict[str, Any]:
    """The JSON of a submission; raises FoldwiseError if there is none, or if it cannot be built again."""
    record = paths.submission(name).with_name(f"{name}.json")
    known = sorted(path.stem for path in paths.submissions.glob("*.json"))
    if name not in known:
        listed = suggestion(name, known) if known else "; none was made yet"
        raise InputError(f"there is no submission '{name}' of {paths.competition}{listed}")
    about = read_json(record, "submission", "submission_sha256")
    if "test" in about:
        raise InputError(f"{shown(record)} is of another test folder; type its make submit TEST=... again")
    if "call" not in about:
        raise StaleError(f"{shown(record)} is of an older version, and does not say how it was made; submit again")
    return about


def set_up(paths: Paths, base: Path) -> None:
    """Makes a folder like the project's, with the competition's own files and nothing that was made from them.

    Folders are linked and files are copied. Other competitions and weights are linked, since recipes may name them. The
    unpacked images are used if they are up to date; else they are unpacked again.
    """
    home, index = base / "data" / paths.competition, Index(paths.home)
    home.mkdir(parents=True, exist_ok=True)
    is_unpacked = not prepare_files(paths, paths.facts()).reason_to_run(index)
    left_out = MADE if is_unpacked else MADE | {"images", "prepared.json"}
    for source in (paths.shipped, paths.home):
        for path in source.glob("[!.]*"):
            if path.name not in left_out:
                place(path, home / path.name)
    for path in (places.ROOT / "data").iterdir():
        if path.is_dir() and path.name != paths.competition:
            place(path, base / "data" / path.name)


def place(path: Path, target: Path) -> None:
    """Copies a file, or links a folder, to ``target``."""
    if path.is_dir():
        if not target.exists():
            target.symlink_to(path.resolve(), target_is_directory=True)
    else:
        shutil.copy2(path, target)


def commands(about: dict[str, Any]) -> Iterator[list[str]]:
    """Yields the words of the driver's commands that make the submission."""
    known = {field.name for field in fields(Call)}
    calls = [about["call"], *about["score"].get("calls", [])]
    call, *members = [Call(**{key: value for key, value in one.items() if key in known}) for one in calls]
    dry = ["DRY=1"] if call.dry_run else []
    for one in members or [call]:
        words = [f"COMPETITION={one.competition}", *([f"RECIPE={one.recipe}"] if one.recipe else [])]
        words += [f"SET={shlex.join(one.settings)}"] if one.settings else []
        words += [f"FOLDS={one.folds}"] if one.folds else []
        words += [f"SEEDS={one.seeds}"] if one.seeds > 1 else []
        yield ["ensemble" if members else "submit", *words, *dry]
    if members:
        runs = " ".join(about["score"]["members"])
        yield ["submit", f"COMPETITION={call.competition}", f"BLEND={call.blend}", f"RUNS={runs}", *dry]


def reproduce(options: Options) -> None:
    """Builds the submission again, and has both compared; or prints the commands."""
    if not options.submission:
        raise InputError("make reproduce needs the name of a submission: SUBMISSION=name, without .csv")
    paths = Paths(options.competition, options.dry_run)
    name = options.submission.removesuffix(".csv")
    about = read_submission(paths, name)
    base = paths.reproduced(name)
    if not options.plan_only:
        set_up(paths, base)
    of_machine = [f"DEVICE={options.device}"] if options.device else []
    of_machine += ["DETERMINISTIC=1"] if options.deterministic else []
    for words in commands(about):
        say("reproduce", f"in {shown(base)}: make {shlex.join([*words, *of_machine])}")
        if not options.plan_only:  # no variable of make's is meant for the commands inside
            given = {"FOLDWISE_ROOT": str(base), "FOLDWISE_MAKE": "", "MAKEFLAGS": ""}
            run_one(["-m", "pipeline", *words, *of_machine], "reproduce", given)
    if not options.plan_only:
        dry = ["--dry-run"] if options.dry_run else []
        named = [f"--competition={options.competition}", f"--submission={name}", *dry]
        run_one(["-m", "pipeline.tools.reproduce", *named], "reproduce")
