"""Defines the input of every stage: the competition, the run, the folds, and the part of the machine to use.

    from pipeline.records.job import make_job
    job = make_job("dogs-vs-cats", recipe="resnet18", settings=["epochs=2"], folds="0,1")

Each stage has a function ``run(job)`` that does its work and returns what it made (pipeline/README.md).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.records.command_line import DEFAULT_COMPETITION, Call, Machine, call_of, machine_of
from pipeline.records.competition import Competition, Train, load_competition
from pipeline.records.names import Members, parse_folds, run_name, run_of_seed
from pipeline.records.paths import Paths, PredictionFolder
from pipeline.records.recipe import Recipe, load_recipe
from pipeline.records.up_to_date import Run
from pipeline.system.errors import InputError
from pipeline.system.files import delete_left_behind
from pipeline.system.places import shown
from pipeline.system.toml import split_settings

#: The defaults: device, workers and threads are chosen automatically.
ANY_MACHINE = Machine()


@dataclass(frozen=True)
class Job:
    """The input of a stage.

    call: what the user typed
    machine: device, threads and loader processes
    paths: where the files of the competition are
    competition: content of competition.toml
    recipe: the recipe with all settings applied
    run: name of the run, name of the recipe, and settings
    folds: numbers of the folds to work on; [ALL_ROWS] to train on all rows
    """

    call: Call
    machine: Machine
    paths: Paths
    competition: Competition
    recipe: Recipe
    run: Run
    folds: list[int]

    @property
    def num_folds(self) -> int:
        """Number of folds of the competition."""
        return self.competition.folds.n

    @property
    def run_folder(self) -> Path:
        """Folder of the run."""
        return self.paths.run(self.run.name)

    def fold_folder(self, fold: int) -> Path:
        """Folder of one fold of the run."""
        return self.paths.fold(self.run.name, fold)

    @property
    def members(self) -> Members:
        """The folds and seeds whose predictions are combined."""
        return Members(self.folds, self.num_folds, self.call.seeds)

    @property
    def predictions(self) -> PredictionFolder:
        """The files of the combined predictions of these folds and seeds of the run, or of the blend."""
        if self.call.blend:
            return self.paths.blend(self.call.blend)
        return self.paths.predictions(self.run.name, self.members)

    @property
    def of_seeds(self) -> list[Job]:
        """The job of each seed: its recipe has that seed, and its run is a part of this one."""
        return [self.of_seed(seed) for seed in range(self.call.seeds)]

    def of_seed(self, seed: int) -> Job:
        """The job of one seed; 0 is the seed of the recipe."""
        recipe = self.recipe.model_copy(update={"seed": (self.recipe.seed + seed) % 2**32})
        run = replace(self.run, name=run_of_seed(self.run.name, seed))
        return replace(self, call=replace(self.call, seed=seed, seeds=1), recipe=recipe, run=run)


def make_job(
    competition: str = DEFAULT_COMPETITION,
    recipe: str = "",
    settings: str | Sequence[str] = (),
    folds: str | int | Sequence[int] = "",
    dry_run: bool = False,
    machine: Machine = ANY_MACHINE,
) -> Job:
    """A job from plain values; see ``Call`` and ``Machine`` for their meaning.

    Raises FoldwiseError for an unknown competition, recipe, key or fold.
    """
    words = split_settings(settings) if isinstance(settings, str) else list(settings)
    numbers = folds if isinstance(folds, str) else str(folds) if isinstance(folds, int) else ",".join(map(str, folds))
    return job_of_call(Call(competition, recipe, words, numbers, dry_run), machine)


#: The competition of a folder without competition.toml, which can only be unpacked.
NOT_DESCRIBED = Competition(title="", train=Train(labels="folders"))


def job_of(args: argparse.Namespace, needs_toml: bool = True) -> Job:
    """The job that the options of a stage describe."""
    return job_of_call(call_of(args), machine_of(args), needs_toml)


def job_of_call(call: Call, machine: Machine, needs_toml: bool = True) -> Job:
    """Loads the competition and the recipe, and deletes temporary files that dead processes left behind.

    needs_toml: False if a missing competition.toml is no error
    """
    paths = Paths(call.competition, call.dry_run)
    delete_left_behind(
        [
            paths.home,
            paths.output,
            paths.cache,
            paths.submissions,
            *paths.cache.glob("features-*"),
            *paths.runs.rglob("*/"),
        ]
    )
    competition = load_competition(paths) if needs_toml or paths.toml.exists() else NOT_DESCRIBED
    name = call.recipe or competition.recipe
    recipe = load_recipe(name, call.settings)
    if call.dry_run:
        recipe = recipe.model_copy(update={"epochs": 1})
    turned = {"rot90", "transpose"} & {*competition.symmetries} if recipe.symmetries or recipe.tta else set()
    if turned and recipe.size[0] != recipe.size[1]:
        raise InputError(
            f"image_size = {list(recipe.size)} is not a square, but symmetries in {shown(paths.toml)} has "
            f"{' and '.join(sorted(turned))}; use a square, or set symmetries=false and tta=false in the recipe"
        )
    run = Run(run_name(name, call.settings), name, call.settings)
    job = Job(call, machine, paths, competition, recipe, run, parse_folds(call.folds, competition.folds.n))
    return job.of_seed(call.seed) if call.seed else job
