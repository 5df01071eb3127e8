"""Defines what each stage reads and writes, and checks if a stage is up to date.

A stage records the facts that it uses (keys of the TOML files), and the sha256 of each file that it read or wrote. It
is up to date as long as all of these are unchanged; modification times do not matter. Stages write the records; the
driver checks them before it runs a stage. Standard library only, so that the check takes a fraction of a second.

A trained fold is an exception: it is up to date if ``trained.json`` exists. If it was made from something else,
records/runs.py raises an error; the fold is not trained again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from pipeline.formats.listing import (
    is_archive,
    is_array_file,
    is_hidden_or_system,
    is_pixel_table,
    is_volume,
    list_files,
    may_hold_images,
)
from pipeline.records.names import ALL_ROWS, Members, run_of_seed
from pipeline.records.paths import Paths, PredictionFolder, recipe_path
from pipeline.system.errors import FoldwiseError, InputError
from pipeline.system.files import read_json
from pipeline.system.index import Index
from pipeline.system.places import is_not_utf8, shown
from pipeline.system.toml import read_toml

#: Version of the content of oof.npz and test.npz: increase it to have older files made again.
PREDICTION_FORMAT = 2
#: The reason to run a stage that has written nothing yet.
NOT_DONE_YET = "not done yet"


@dataclass(frozen=True)
class StageFiles:
    """What a stage reads and writes.

    paths: where the files of the competition are
    record: the file with the record of the stage, written last
    facts: what the stage uses from the TOML files, by a name that the user understands
    inputs: files that the stage reads
    outputs: files that the stage writes, as far as they are known beforehand; its record lists all of them
    inputs_may_be_deleted: True if the inputs may be deleted afterwards, such as archives to free disk space
    """

    paths: Paths
    record: Path
    facts: dict[str, Any]
    inputs: Sequence[str | Path]
    outputs: Sequence[Path] = ()
    inputs_may_be_deleted: bool = False

    def new_record(self, read: dict[str, str | None], made: Iterable[str | Path]) -> dict[str, Any]:
        """The content of the record.

        read: sha256 by key of the files that were read, computed before that (``hash_inputs``)
        made: the files that were written; they are hashed now
        """
        index = Index(self.paths.home)
        hashes = index.hashes(made)
        index.save()
        return {"facts": as_json(self.facts), "read": read, "made": hashes}

    def hash_inputs(self) -> dict[str, str | None]:
        """The sha256 of all files that the stage reads, by key; call this before the stage reads them."""
        index = Index(self.paths.home)
        hashes = index.hashes(self.inputs)
        index.save()
        return hashes

    def last_record(self) -> dict[str, Any] | None:
        """The record of the last time that the stage ran; None if there is none or it is not valid."""
        try:
            record = read_json(self.record, "facts", "read", "made")
        except (OSError, FoldwiseError):
            return None
        return record if all(isinstance(record[key], dict) for key in ("facts", "read", "made")) else None

    def reason_to_run(self, index: Index) -> str:
        """What has changed since the stage ran, in a few words; "" if it is up to date."""
        missing = [path for path in [*self.outputs, self.record] if not path.exists()]
        if len(missing) == len(self.outputs) + 1:
            return NOT_DONE_YET
        if missing:
            return f"there is no {shown(missing[0])}"
        before = self.last_record()
        if before is None:
            return f"{shown(self.record)} is damaged, or from an older version"
        now = as_json(self.facts)
        for name in {**before["facts"], **now}:
            if before["facts"].get(name) != now.get(name):
                return f"{name} changed"
        lost = self.deleted_inputs(before, index)
        read = {key: sha256 for key, sha256 in before["read"].items() if key not in lost}
        made = index.hashes_of(before["made"])
        return difference(read, index.hashes(self.inputs), index) or difference(before["made"], made, index)

    def deleted_inputs(self, before: dict[str, Any], index: Index) -> dict[str, str | None]:
        """The inputs in the record ``before`` that have been deleted since, if they may be."""
        if not self.inputs_may_be_deleted:
            return {}
        return {key: sha256 for key, sha256 in before["read"].items() if not index.file(key).exists()}


def as_json(facts: dict[str, Any]) -> dict[str, Any]:
    """The facts as they are after they were written to JSON and read back."""
    return json.loads(json.dumps(facts, default=str))


def difference(before: dict[str, str | None], now: dict[str, str | None], index: Index) -> str:
    """The first file that differs and the number of others, as text; "" if none differs."""
    if before == now:
        return ""
    keys = sorted(key for key in {**before, **now} if before.get(key) != now.get(key))
    if not keys:
        return ""
    first = keys[0]
    fate = "changed" if before.get(first) is not None else "is new"
    if now.get(first) is None:
        fate = "was removed"
    more = f", and {len(keys) - 1:,} more" if len(keys) > 1 else ""
    return f"{shown(index.file(first))} {fate}{more}"


def toml_facts(facts: dict[str, Any], *keys: str) -> dict[str, Any]:
    """The values of some keys of competition.toml, by names that the user understands."""
    return {f"'{key}' in competition.toml": facts.get(key) for key in keys}


def text_in(facts: dict[str, Any], table: str, key: str) -> str | None:
    """A text in a table of competition.toml; None if it is missing or not text, which the stages report."""
    value = facts[table].get(key) if isinstance(facts.get(table), dict) else None
    return value if isinstance(value, str) else None


def folders_in(facts: dict[str, Any], split: str) -> list[str]:
    """The folders of the images of a split, as competition.toml names them."""
    table = facts.get(split)
    named = table.get("images", split) if isinstance(table, dict) else split
    return [name for name in (named if isinstance(named, list) else [named]) if isinstance(name, str)]


def image_folders(paths: Paths, names: Iterable[str]) -> list[str]:
    """The folders of images with these names from competition.toml, as paths."""
    return [os.fspath(place) for name in names if (place := paths.find_folder(name)) is not None]


def named_files(paths: Paths, names: Iterable[str | None]) -> list[str | Path]:
    """The files with these names from competition.toml; for a folder, all files in it.

    Missing files are left out; the stage reports them.
    """
    files: dict[str | Path, None] = {}
    for name in names:
        place = paths.find_optional(name) if name else None
        if place is None:
            continue
        if place.is_dir():
            base = os.fspath(place)
            files |= dict.fromkeys(f"{base}{os.sep}{file}" for file in list_files(place))
        else:
            files[os.fspath(place)] = None
    return list(files)


# --- the stages -------------------------------------------------------------------------------------------------


def raw_contents(paths: Paths, facts: dict[str, Any]) -> list[Path]:
    """The files and folders in raw/ that match the key ``raw`` of competition.toml, by default all."""
    wanted = facts.get("raw") or ["*"]
    wanted = wanted if isinstance(wanted, list) else [wanted]  # not valid; prepare reports it
    found = [path for path in sorted(paths.raw.glob("*")) if not is_hidden_or_system(path.name)]
    for path in found:
        if is_not_utf8(path.name):
            raise InputError(f"{shown(paths.raw)} contains a name that is not UTF-8 text, {path.name!a}; rename it")
    found = [path for path in found if path.is_file() or path.is_dir()]  # no pipes and devices
    return [path for path in found if any(fnmatchcase(path.name, str(pattern)) for pattern in wanted)]


def packed_files(contents: Sequence[Path]) -> list[Path]:
    """The files that prepare unpacks: archives in ``contents``, and array files in ``contents`` and its folders."""
    inside = (is_array_file, is_pixel_table)
    kinds = (is_archive, is_volume, *inside)
    packed = [path for path in contents if path.is_file() and any(is_kind(path) for is_kind in kinds)]
    for place in contents:
        if place.is_dir():
            files = (place / name for name in list_files(place) if may_hold_images(name))
            packed += [path for path in files if any(is_kind(path) for is_kind in inside)]
    return packed


def prepare_files(paths: Paths, facts: dict[str, Any]) -> StageFiles:
    """raw/ -> images/."""
    files = packed_files(raw_contents(paths, facts))
    used = toml_facts(facts, "builtin", "raw", "pixel_shape")
    return StageFiles(paths, paths.prepared, used, files, inputs_may_be_deleted=True)


def manifest_files(paths: Paths, facts: dict[str, Any]) -> StageFiles:
    """Images and labels -> manifest.csv."""
    labels = text_in(facts, "train", "labels")
    names = [
        *image_folders(paths, folders_in(facts, "train")),
        None if labels == "folders" else labels,
        text_in(facts, "train", "groups"),
        *(image_folders(paths, folders_in(facts, "test")) if "test" in facts else []),
        text_in(facts, "test", "ids"),
        text_in(facts, "submission", "sample"),
    ]
    keys = ["task", "train", "test", "classes", "submission", "max_pixels"]
    keys += ["metric"] if facts.get("task") is None else []  # it then helps to find the kind of task
    keys += ["folds"] if paths.dry_run else []  # a dry run takes some images for each fold
    return StageFiles(
        paths, paths.manifest_record, toml_facts(facts, *keys), named_files(paths, names), [paths.manifest, paths.task]
    )


def folds_files(paths: Paths, facts: dict[str, Any]) -> StageFiles:
    """manifest.csv -> folds.csv."""
    own = named_files(paths, [text_in(facts, "folds", "file")])
    files = [paths.manifest, paths.task, *own]
    return StageFiles(paths, paths.folds_record, toml_facts(facts, "folds"), files, [paths.folds])


@dataclass(frozen=True)
class Run:
    """A run.

    name: name of its folder; different settings can have the same name, since some characters are replaced in it
    recipe: name of the recipe
    settings: ``key=value`` changes of the recipe
    """

    name: str
    recipe: str
    settings: Sequence[str]

    @property
    def facts(self) -> dict[str, Any]:
        """The recipe and the settings, as facts of a stage."""
        path = recipe_path(self.recipe)
        return {f"the recipe {self.recipe}.toml": read_toml(path), "SET": sorted(self.settings)}


def predict_files(paths: Paths, run: Run, fold: int) -> StageFiles:
    """The weights of a fold -> oof.npz and test.npz."""
    folder = paths.fold(run.name, fold)
    files = [folder / "weights.safetensors", paths.manifest, paths.folds]
    facts = {"SET": sorted(run.settings), "the format of prediction files": PREDICTION_FORMAT}
    made = [] if fold == ALL_ROWS else [folder / "oof.npz"]
    return StageFiles(paths, folder / "predicted.json", facts, files, made)


def own_metric_files(paths: Paths, facts: dict[str, Any]) -> list[Path]:
    """The file with the user's own metric, if competition.toml names one (``"my_metric.py:score"``)."""
    name, _, function = str(facts.get("metric")).partition(":")
    return [paths.toml.parent / name] if function else []


def ensemble_files(paths: Paths, facts: dict[str, Any], run: Run, members: Members) -> StageFiles:
    """The predictions of some members -> oof.csv, test.csv and the score."""
    seeds = [run_of_seed(run.name, seed) for seed in range(members.seeds)]
    folders = [paths.fold(of_seed, fold) for of_seed in seeds for fold in members.folds]
    inputs = [folder / name for folder in folders for name in ("trained.json", "oof.npz", "test.npz")]
    inputs += [paths.folds, paths.manifest, paths.task, *own_metric_files(paths, facts)]
    inputs += [paths.predictions(run.name, members.twin).record] if members.on_all_rows else []
    of_run = toml_facts(facts, "metric", "greater_is_better", "task", "classes", "symmetries") | run.facts
    made = paths.predictions(run.name, members)
    return StageFiles(paths, made.record, of_run, inputs, [] if members.on_all_rows else [made.oof])


def blend_files(paths: Paths, facts: dict[str, Any], runs: Sequence[PredictionFolder], name: str) -> StageFiles:
    """The predictions of several runs -> the prediction of their blend."""
    inputs = [file for run in runs for file in (run.record, run.oof)]
    inputs += [paths.folds, paths.manifest, paths.task, *own_metric_files(paths, facts)]
    used = toml_facts(facts, "metric", "greater_is_better", "task", "classes") | {"RUNS": [run.name for run in runs]}
    return StageFiles(paths, paths.blend(name).record, used, inputs, [paths.blend(name).oof])


def submit_files(paths: Paths, facts: dict[str, Any], made: PredictionFolder) -> StageFiles:
    """The prediction of a run or of a blend -> the CSV to upload."""
    labels = text_in(facts, "test", "labels")
    names = [text_in(facts, "submission", "sample"), None if labels == "folders" else labels]
    files = [made.record, made.test, paths.manifest, paths.task, paths.test_labels, *named_files(paths, names)]
    files += own_metric_files(paths, facts)
    csv = paths.submission(made.name)
    record = csv.with_name(f"{csv.stem}.json")
    return StageFiles(paths, record, toml_facts(facts, "submission", "test", "metric", "slug"), files, [csv])
