"""Records what a run is made from, and rejects a run that was made from something else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import tomli_w

from pipeline.records.competition import Competition
from pipeline.records.job import Job
from pipeline.records.paths import Paths
from pipeline.records.recipe import LATER_KEYS, Recipe
from pipeline.records.tables import read_folds, read_manifest
from pipeline.records.task import metric_of, read_task
from pipeline.system.errors import StaleError
from pipeline.system.files import fingerprint, read_json, read_record, write_record, write_text
from pipeline.system.places import shown
from pipeline.system.provenance import provenance
from pipeline.tasks.metrics import Metric
from pipeline.tasks.task import Task

#: The values of the keys that an identity lacks; older versions of Foldwise did not have them.
IF_MISSING = {"task": "classification", **{key: Recipe.model_fields[key].default for key in LATER_KEYS}}


def fingerprints(paths: Paths, manifest: pd.DataFrame) -> dict[str, str]:
    """The sha256 of folds.csv, and of the ids and hashes of all train images."""
    train = manifest[manifest["split"] == "train"]
    return {
        "folds_sha256": fingerprint(paths.folds),
        "train_images_sha256": fingerprint("\n".join(train["image_id"] + " " + train["sha256"])),
    }


def identity(job: Job, task: Task, manifest: pd.DataFrame) -> dict[str, Any]:
    """Everything that determines what the folds of a run learn: recipe, symmetries, task, classes, folds and images."""
    return {
        **job.recipe.choices,
        **({} if task.kind == IF_MISSING["task"] else {"task": task.kind}),
        "symmetries_granted": list(job.competition.symmetries),
        "class_names": task.target_names,
        **fingerprints(job.paths, manifest),
    }


@dataclass(frozen=True)
class Tables:
    """What is known of a competition once its folds are made.

    manifest: one row for each image
    folds: one row for each train image
    task: what the labels mean
    metric: the metric of the competition
    """

    manifest: pd.DataFrame
    folds: pd.DataFrame
    task: Task
    metric: Metric

    @property
    def test_ids(self) -> pd.Series:
        """The ids of the test images, in the order of the manifest."""
        return self.manifest.loc[self.manifest["split"] == "test", "image_id"]

    def rows_of(self, folds: Sequence[int]) -> pd.DataFrame:
        """The rows of folds.csv that are in these folds."""
        return self.folds[self.folds["fold"].isin(folds)]


@dataclass(frozen=True)
class RunTables(Tables):
    """What the stages of a run read before they start.

    identity: what the run is made from (``identity``)
    """

    identity: dict[str, Any]


def read_tables(paths: Paths, competition: Competition) -> Tables:
    """Reads manifest.csv, folds.csv and task.json."""
    manifest = read_manifest(paths.manifest)
    folds = read_folds(paths.folds, competition.folds.n, manifest)
    task = read_task(paths, competition)
    return Tables(manifest, folds, task, metric_of(competition, task, paths))


def open_run(job: Job) -> RunTables:
    """Reads the tables of a run's competition; raises FoldwiseError if the run was made from something else."""
    tables = read_tables(job.paths, job.competition)
    tables.task.check_objective(job.recipe.objective)
    made_of = identity(job, tables.task, tables.manifest)
    check_run(job.paths, job.run.name, made_of)
    return RunTables(tables.manifest, tables.folds, tables.task, tables.metric, made_of)


def differences(made_of: dict[str, Any], wanted: dict[str, Any]) -> str:
    """The keys that differ with their values, as text; "" if none does."""
    made_of, wanted = IF_MISSING | made_of, IF_MISSING | wanted
    keys = [key for key in {**made_of, **wanted} if made_of.get(key) != wanted.get(key)]
    changes = [f"{key} was {made_of.get(key)!r} and is now {wanted.get(key)!r}" for key in keys]
    return "; ".join(
        change if len(change) <= 100 else f"{key} differs" for key, change in zip(keys, changes, strict=True)
    )


def has_started(paths: Paths, run: str) -> bool:
    """True if the training of a fold of the run has started."""
    return any((folder / name).exists() for folder in paths.trainings(run) for name in ("checkpoints", "trained.json"))


def made_of(paths: Paths, run: str) -> dict[str, Any] | None:
    """The identity of a run from run.json, else from the record of a trained fold; None if there is neither."""
    record = paths.run(run) / "run.json"
    if record.exists():
        return read_record(record, "made_of")["made_of"]
    finished = [record for folder in paths.trainings(run) if (record := folder / "trained.json").exists()]
    return read_json(finished[0], "made_of")["made_of"] if finished else None


def check_run(paths: Paths, run: str, wanted: dict[str, Any]) -> None:
    """Raises FoldwiseError, with the keys that differ, if the run was made from something else."""
    before = made_of(paths, run) if has_started(paths, run) else None
    differing = differences(before, wanted) if before else ""
    if differing:
        advice = "undo the change, or start a new run (with SET=... or a recipe file of another name), or delete that"
        advice += " folder to train the run again"
        if paths.dry_run:
            advice = "type: make clean (it deletes all dry runs)"
        raise StaleError(f"{shown(paths.run(run))} was made from something else ({differing}); {advice}")


def start_run(job: Job, wanted: dict[str, Any], pretrained: dict[str, str] | None) -> None:
    """Writes recipe.toml and run.json before the first fold of the run starts.

    pretrained: origin, licence and sha256 of the pretrained weights; None for random weights

    Raises FoldwiseError if the run was made from something else, or from other pretrained weights.
    """
    check_run(job.paths, job.run.name, wanted)
    record = job.run_folder / "run.json"
    if not has_started(job.paths, job.run.name) or not record.exists():
        write_text(record.with_name("recipe.toml"), tomli_w.dumps(job.recipe.model_dump(exclude_none=True)))
        typed = {"recipe": job.run.recipe, "settings": list(job.run.settings)}
        about = {"run": job.run.name, **typed, "made_of": wanted, "pretrained": pretrained, **provenance()}
        write_record(record, about)
    elif pretrained and sha256_before(read_record(record)) not in (None, pretrained["sha256"]):
        raise StaleError(
            f"the pretrained weights from {pretrained['origin']} are not those that the run started from, and all "
            f"folds of a run must start from the same weights; restore the old file, or delete {shown(record.parent)} "
            "to train all folds again"
        )


def sha256_before(record: dict[str, Any]) -> str | None:
    """The sha256 of the pretrained weights in run.json; None if it has none, as for weights of a hub before 2026-12."""
    return (record.get("pretrained") or {}).get("sha256") or record.get("pretrained_sha256")
