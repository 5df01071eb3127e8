"""What a run is made of, and the check that what lies in its folder was made of the same."""

from __future__ import annotations

from typing import Any

import pandas as pd

from pipeline.records.competition import Competition
from pipeline.records.errors import FoldwiseError
from pipeline.records.files import fingerprint, read_json, read_record, write_record, write_text
from pipeline.records.paths import Paths, run_name, shown
from pipeline.records.provenance import provenance
from pipeline.records.recipe import Recipe, load_recipe
from pipeline.records.settings import toml_text


def asked_run(args: Any, competition: Competition) -> tuple[str, Recipe]:
    """Name and resolved recipe of the run that the command line asks for; a dry run has one epoch."""
    name = args.recipe or competition.recipe
    recipe = load_recipe(name, args.set)
    if args.dry_run:
        recipe = recipe.model_copy(update={"epochs": 1})
    return run_name(name, args.set), recipe


def fingerprints(paths: Paths, manifest: pd.DataFrame) -> dict[str, str]:
    """Of the folds, and of the train images under their ids."""
    train = manifest[manifest["split"] == "train"]
    return {
        "folds_sha256": fingerprint(paths.folds),
        "train_images_sha256": fingerprint("\n".join(train["image_id"] + " " + train["sha256"])),
    }


def identity(
    recipe: Recipe, competition: Competition, paths: Paths, class_names: list[str], manifest: pd.DataFrame
) -> dict[str, Any]:
    """All that decides what the folds of a run learn."""
    return {
        **recipe.model_dump(),
        "symmetries_granted": list(competition.symmetries),
        "class_names": class_names,
        **fingerprints(paths, manifest),
    }


def differences(made_of: dict[str, Any], wanted: dict[str, Any]) -> str:
    """The keys that differ and how, '' when none does."""
    keys = [key for key in {**made_of, **wanted} if made_of.get(key) != wanted.get(key)]
    changes = [f"{key} was {made_of.get(key)!r} and is now {wanted.get(key)!r}" for key in keys]
    return "; ".join(
        change if len(change) <= 100 else f"{key} differs" for key, change in zip(keys, changes, strict=True)
    )


def has_work(paths: Paths, run: str) -> bool:
    """Whether a fold of the run has begun."""
    return any(any(paths.run(run).glob(f"fold*/{name}")) for name in ("checkpoints", "trained.json"))


def made_of(paths: Paths, run: str) -> dict[str, Any] | None:
    """What the run was made of by its record, else by that of a finished fold; None where nothing tells."""
    record = paths.run(run) / "run.json"
    if record.exists():
        return read_record(record, "made_of")["made_of"]
    finished = sorted(paths.run(run).glob("fold*/trained.json"))
    return read_json(finished[0], "made_of")["made_of"] if finished else None


def check_run(paths: Paths, run: str, wanted: dict[str, Any]) -> None:
    """Raises FoldwiseError when the run's folds were made of other things, naming the keys that differ."""
    before = made_of(paths, run) if has_work(paths, run) else None
    differing = differences(before, wanted) if before else ""
    if differing:
        raise FoldwiseError(
            f"{shown(paths.run(run))} was made of something else ({differing}); undo the change, or name a new run "
            f"(SET=... or a recipe file of another name), or delete that folder to make it again"
        )


def start_run(paths: Paths, run: str, recipe: Recipe, wanted: dict[str, Any], pretrained_sha256: str | None) -> None:
    """Writes what the run is made of into its folder, before the first fold leaves anything there; raises FoldwiseError
    when its folds would start from different weights."""
    check_run(paths, run, wanted)
    record = paths.run(run) / "run.json"
    if not has_work(paths, run) or not record.exists():
        write_text(record.with_name("recipe.toml"), toml_text(recipe.model_dump()))
        weights = {"pretrained_sha256": pretrained_sha256}
        write_record(record, {"run": run, "made_of": wanted, **weights, **provenance()})
    elif read_record(record).get("pretrained_sha256") != pretrained_sha256:
        raise FoldwiseError(
            f"{recipe.pretrained} has changed since {shown(record)} was written, and all folds of a run start from the "
            f"same weights; put the old file back, or delete {shown(record.parent)} to train all folds again"
        )
