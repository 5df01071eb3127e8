"""Plans a call: its run, folds and seeds, and how they share the machine.

Standard library only, so that a plan takes a fraction of a second and works before anything is installed.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.driver.options import Options
from pipeline.driver.share import ranks_of, share_machine
from pipeline.records.names import (
    MAX_FOLDS,
    MAX_RUN_NAME_BYTES,
    Members,
    full_run_name,
    parse_folds,
    run_name,
    run_of_seed,
)
from pipeline.records.paths import Paths, recipe_path
from pipeline.records.up_to_date import (
    folders_in,
)
from pipeline.system.errors import InputError, StaleError
from pipeline.system.places import shown
from pipeline.system.threads import cores
from pipeline.system.toml import read_toml

#: Seconds of HOURS that are reserved for the stages after training.
RESERVED_SECONDS = 30


@dataclass(frozen=True)
class Plan:
    """The plan of one call.

    options: what the user typed
    paths: where the files of the competition are
    facts: content of competition.toml, not validated
    recipe: name of the recipe
    run: name of the run
    members: the folds and seeds asked for
    seed: the one to train and predict now (``of_seeds``)
    folds_at_once: number of folds to train at once; make's -j overrides it
    threads: fold -> number of CPU threads
    last_round: folds that start after all others have ended, since they get another number of threads
    ranks: number of processes that train one fold
    until: time (seconds since 1970) at which training must end; None for no limit
    """

    options: Options
    paths: Paths
    facts: dict[str, Any]
    recipe: str
    run: str
    members: Members
    seed: int
    folds_at_once: int
    threads: dict[int, int]
    last_round: list[int]
    ranks: int
    until: float | None

    @property
    def chosen(self) -> Sequence[int]:
        """The folds asked for."""
        return self.members.folds

    @property
    def of_seeds(self) -> list[Plan]:
        """The plan of each seed, whose run is a part of this one."""
        seeds = range(self.members.seeds)
        return [replace(self, seed=seed, run=run_of_seed(self.run, seed)) for seed in seeds]

    @property
    def jobs(self) -> int:
        """Number of folds to train at once: make's -j if it is given, else ``folds_at_once``."""
        if self.options.jobs is None:
            return self.folds_at_once
        return self.options.jobs or len(self.chosen)

    @property
    def submission(self) -> Path:
        """Path of the submission."""
        return self.paths.submission(self.paths.predictions(self.run, self.members).name)

    @property
    def has_test(self) -> bool:
        """True if competition.toml has a test set; an optional one counts only if its images exist."""
        test = self.facts.get("test")
        if not isinstance(test, dict):
            return "test" in self.facts  # an invalid table, which the stages report
        folders = folders_in(self.facts, "test")
        return not (test.get("optional") is True and all(self.paths.find_optional(name) is None for name in folders))

    def is_trained(self, fold: int) -> bool:
        """True if the fold is trained."""
        return (self.paths.fold(self.run, fold) / "trained.json").exists()

    @property
    def trained(self) -> list[int]:
        """The folds asked for that are trained."""
        return [fold for fold in self.chosen if self.is_trained(fold)]

    @property
    def finished(self) -> Plan | None:
        """The plan with only the folds, and then seeds, that are trained; None if no fold is."""
        if not (folds := self.trained):
            return None
        done = [all(part.is_trained(fold) for fold in folds) for part in self.of_seeds]
        return replace(self, members=replace(self.members, folds=folds, seeds=(*done, False).index(False)))

    @property
    def untrained(self) -> list[int]:
        """The folds asked for that are not trained."""
        return [fold for fold in self.chosen if not self.is_trained(fold)]


def make_plan(options: Options) -> Plan:
    """The plan of a call; raises FoldwiseError for an invalid name or number, as the stages would."""
    paths = Paths(options.competition, options.dry_run)
    facts = paths.facts()
    table = facts.get("folds", {})
    num_folds = table.get("n", 5) if isinstance(table, dict) else table
    if type(num_folds) is not int or not 2 <= num_folds <= MAX_FOLDS:
        raise InputError(f"{shown(paths.toml)}: folds.n = {num_folds!r} is not a whole number from 2 to {MAX_FOLDS}")
    recipe = options.recipe or str(facts.get("recipe", "resnet18"))
    content = read_toml(recipe_path(recipe))
    sizes = [str(content.get("image_size")), *(text[11:] for text in options.settings if text[:11] == "image_size=")]
    run = run_name(recipe, options.settings)
    require_no_older_name(paths, recipe, options.settings)
    chosen = parse_folds(options.folds, num_folds)
    device = options.device or "auto"
    ranks = ranks_of(options.gpus, options.cpus, options.cluster, device)
    beside, threads = share_machine(
        len(chosen), int(sizes[-1]) if re.fullmatch("[0-9]{1,9}", sizes[-1]) else 224, device
    )
    if ranks > 1 or options.cluster:  # each fold uses the whole machine, or other machines
        beside, threads = 1, [cores()] * len(chosen)
    until = None if options.hours is None else time.time() + options.hours * 3600 - RESERVED_SECONDS
    last_round = chosen[len(chosen) - len(chosen) % beside :]
    by_fold = dict(zip(chosen, threads, strict=True))
    members = Members(chosen, num_folds, options.seeds)
    return Plan(options, paths, facts, recipe, run, members, 0, beside, by_fold, last_round, ranks, until)


def require_no_older_name(paths: Paths, recipe: str, settings: Sequence[str]) -> None:
    """Raises FoldwiseError if an earlier version made this run under a longer name, so that it is not trained twice."""
    older = full_run_name(recipe, settings)
    if MAX_RUN_NAME_BYTES < len(older.encode()) <= 255 and paths.run(older).exists():
        now = paths.run(run_name(recipe, settings))
        raise StaleError(
            f"{shown(paths.run(older))} was made before names were shortened; rename it to {now.name}, or delete it to "
            "train the run again"
        )
