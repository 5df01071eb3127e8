"""Builds a submission again from its JSON, in a folder of its own, and has it compared. Standard library only.

All stages run there from the start, as the JSON says: the same recipes, settings, folds and seeds. It takes as long as
the training did, and continues if it was interrupted.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from pipeline.driver.options import VARIABLES, Options
from pipeline.driver.processes import run_one
from pipeline.records.command_line import Call
from pipeline.records.paths import RECIPES, Paths
from pipeline.records.up_to_date import manifest_files, named_files, prepare_files, text_in
from pipeline.system import places
from pipeline.system.console import say
from pipeline.system.errors import InputError, StaleError, suggestion
from pipeline.system.files import fingerprint, read_json, write_json
from pipeline.system.index import Index
from pipeline.system.places import shown
from pipeline.system.provenance import code_sha256

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


def state_of(paths: Paths) -> str:
    """A checksum of everything that the stages start from: data, competition.toml, recipes and code."""
    index, facts = Index(paths.home), paths.facts()
    own_folds = named_files(paths, [text_in(facts, "folds", "file")])
    data = index.hashes([*prepare_files(paths, facts).inputs, *manifest_files(paths, facts).inputs, *own_folds])
    index.save()
    recipes = {path.name: fingerprint(path) for path in sorted(RECIPES.glob("*.toml"))}
    return fingerprint([data, fingerprint(paths.toml), recipes, code_sha256()])


def set_up(paths: Paths, base: Path) -> None:
    """Makes a folder like the project's, with the competition's own files and nothing that was made from them.

    Folders are linked and files are copied. Other competitions and weights are linked, since recipes may name them. The
    unpacked images are used if they are up to date; else they are unpacked again. If an earlier attempt began from
    something else, it is deleted.
    """
    state, began = state_of(paths), base / "began.json"
    if base.exists() and not (began.exists() and read_json(began).get("state") == state):
        say("reproduce", f"note: {shown(base)} was begun from something else; it begins anew")
        shutil.rmtree(base)
    home, index = base / "data" / paths.competition, Index(paths.home)
    home.mkdir(parents=True, exist_ok=True)
    write_json(began, {"state": state})
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
        if not os.path.lexists(target):
            target.symlink_to(path.resolve(), target_is_directory=True)
    else:
        shutil.copy2(path, target)


def commands(about: dict[str, Any]) -> Iterator[list[str]]:
    """Yields the words of the driver's commands that make the submission."""
    known = {field.name for field in fields(Call)}
    calls = [about["call"], *about["score"].get("calls", [])]
    call, *members = [Call(**{key: value for key, value in one.items() if key in known}) for one in calls]
    dry = ["DRY=1"] if call.dry_run else []
    of_folds = [replace(call, folds="")] if about["score"].get("twin") else []  # it teaches steps and rules
    for one in [*of_folds, *(members or [call])]:
        words = [f"COMPETITION={one.competition}", *([f"RECIPE={one.recipe}"] if one.recipe else [])]
        words += [f"SET={shlex.join(one.settings)}"] if one.settings else []
        words += [f"FOLDS={one.folds}"] if one.folds else []
        words += [f"SEEDS={one.seeds}"] if one.seeds > 1 else []
        yield ["ensemble" if members or one in of_folds else "submit", *words, *dry]
    if members:
        runs = " ".join(about["score"]["members"])
        yield ["submit", f"COMPETITION={call.competition}", f"BLEND={call.blend}", f"RUNS={runs}", *dry]


def reproduce(options: Options) -> None:
    """Builds the submission again, and has both compared; or prints the commands."""
    if not options.submission:
        raise InputError("make reproduce needs the name of a submission: SUBMISSION=name, without .csv")
    typed = {"RECIPE": options.recipe, "SET": options.settings, "FOLD": options.folds, "HOURS": options.hours}
    if unused := [name for name, value in [*typed.items(), ("SEEDS", options.seeds > 1)] if value]:
        raise InputError(f"the submission says how it was made, so {unused[0]} has no effect; leave it out")
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
            given = {"FOLDWISE_ROOT": str(base), "FOLDWISE_MAKE": "", "MAKEFLAGS": "", **dict.fromkeys(VARIABLES, "")}
            run_one(["-m", "pipeline", *words, *of_machine], "reproduce", given)
    if not options.plan_only:
        dry = ["--dry-run"] if options.dry_run else []
        named = [f"--competition={options.competition}", f"--submission={name}", *dry]
        run_one(["-m", "pipeline.tools.reproduce", *named], "reproduce")
