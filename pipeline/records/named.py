"""Finds predictions by their names: those of a run with its choices of folds and seeds, or of a blend.

The name is that of the submission: ``resnet18``, ``resnet18~epochs=60~seeds=3``, or the name of a blend. Standard
library only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.records.command_line import Call
from pipeline.records.names import typed_folds
from pipeline.records.paths import Paths, PredictionFolder, known_recipes
from pipeline.system.errors import InputError, StaleError, suggestion
from pipeline.system.files import read_record
from pipeline.system.places import shown


def known_predictions(paths: Paths) -> dict[str, PredictionFolder]:
    """All combined predictions of a competition by their names."""
    records = [
        *paths.runs.glob("*/score*.json"), *paths.runs.glob("*/all/score*.json"), *paths.blends.glob("*/score.json"),
    ]  # fmt: skip
    found = [PredictionFolder(record.parent, record.stem.removeprefix("score")) for record in sorted(records)]
    return {folder.name: folder for folder in found}


def prediction_named(paths: Paths, name: str) -> PredictionFolder:
    """The combined predictions of this name; raises FoldwiseError if there are none."""
    known = known_predictions(paths)
    if name not in known:
        listed = f"; there are {', '.join(known)}" if known else "; nothing is combined yet"
        raise InputError(f"there are no predictions '{name}' of {paths.competition}{suggestion(name, known) or listed}")
    return known[name]


def call_of_record(paths: Paths, score: dict[str, Any], record: Path) -> Call:
    """What the user typed to make the run of a score.json."""
    try:
        folds = "all" if score["folds"] == "all rows" else typed_folds(score["folds"]) if score["partial"] else ""
        recipe = score["run"].partition("/")[0].partition("~")[0]
        settings = score["facts"]["SET"]
        return Call(paths.competition, recipe, settings, folds, paths.dry_run, score.get("seeds", 1))
    except (KeyError, TypeError, AttributeError) as error:
        raise StaleError(f"{shown(record)} is of an older version; delete it and combine the folds again") from error


def call_named(paths: Paths, name: str) -> Call:
    """What the user typed to make the run with this name, which may not be combined yet if it is that of a recipe.

    Raises FoldwiseError if there is no such run, or if it cannot be a part of a blend.
    """
    known = known_predictions(paths)
    if name not in known and name in known_recipes():
        return Call(paths.competition, name, (), "", paths.dry_run)
    if name not in known and (paths.run(name) / "run.json").is_file():  # trained, but not combined
        record = paths.run(name) / "run.json"
        about = read_record(record)
        if "recipe" not in about:
            raise StaleError(f"{name} is not combined; type make ensemble with its RECIPE and SET")
        return Call(paths.competition, about["recipe"], about["settings"], "", paths.dry_run)
    if name.endswith(","):
        raise InputError(f"'{name}' ends in a comma; separate the names of runs by spaces only")
    folder = prediction_named(paths, name)
    if folder.is_blend:
        raise InputError(f"'{name}' is a blend; name the runs that it is made of")
    call = call_of_record(paths, read_record(folder.record), folder.record)
    if call.folds == "all":
        raise InputError(
            f"'{name}' is trained on all rows, so that no out-of-fold rows say what it is worth in a blend; name a run "
            "with folds"
        )
    return call
