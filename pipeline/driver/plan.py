"""Plans a call: its run and folds, how they share the machine, and which stages are out of date and why.

Standard library only, so that a plan takes a fraction of a second and works before anything is installed.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.driver.options import STAGES, Options
from pipeline.driver.share import ranks_of, share_machine
from pipeline.records.names import MAX_RUN_NAME_BYTES, full_run_name, name_with_folds, parse_folds, run_name
from pipeline.records.paths import MAX_FOLDS, Paths, recipe_path
from pipeline.records.up_to_date import (
    Run,
    StageFiles,
    ensemble_files,
    folders_in,
    folds_files,
    manifest_files,
    predict_files,
    prepare_files,
    submit_files,
)
from pipeline.system.errors import FoldwiseError, InputError, StaleError, count_of
from pipeline.system.files import read_json
from pipeline.system.index import Index
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
    num_folds: number of folds of the competition
    chosen: the folds asked for
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
    num_folds: int
    chosen: list[int]
    folds_at_once: int
    threads: dict[int, int]
    last_round: list[int]
    ranks: int
    until: float | None

    @property
    def jobs(self) -> int:
        """Number of folds to train at once: make's -j if it is given, else ``folds_at_once``."""
        if self.options.jobs is None:
            return self.folds_at_once
        return self.options.jobs or len(self.chosen)

    @property
    def submission(self) -> Path:
        """Path of the submission."""
        return self.paths.submissions / name_with_folds(self.run, self.chosen, self.num_folds, ".csv")

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
    return Plan(
        options, paths, facts, recipe, run, num_folds, chosen, beside, by_fold, last_round, ranks, until
    )  # fmt: skip


def require_no_older_name(paths: Paths, recipe: str, settings: Sequence[str]) -> None:
    """Raises FoldwiseError if an earlier version made this run under a longer name, so that it is not trained twice."""
    older = full_run_name(recipe, settings)
    if MAX_RUN_NAME_BYTES < len(older.encode()) <= 255 and paths.run(older).exists():
        now = paths.run(run_name(recipe, settings))
        raise StaleError(
            f"{shown(paths.run(older))} was made before names were shortened; rename it to {now.name}, or delete it to "
            "train the run again"
        )


# --- what is out of date ----------------------------------------------------------------------------------------


def files_of_stage(plan: Plan, stage: str) -> StageFiles:
    """What a stage reads and makes; for all stages except train and predict, which work on single folds."""
    if stage == "prepare":
        return prepare_files(plan.paths, plan.facts)
    if stage == "manifest":
        return manifest_files(plan.paths, plan.facts)
    if stage == "folds":
        return folds_files(plan.paths, plan.facts)
    if stage == "ensemble":
        return ensemble_files(plan.paths, plan.facts, run_of(plan), plan.chosen, plan.num_folds)
    return submit_files(plan.paths, plan.facts, plan.run, plan.chosen, plan.num_folds)


def run_of(plan: Plan) -> Run:
    """The name, recipe and settings of the plan's run."""
    return Run(plan.run, plan.recipe, plan.options.settings)


def why(plan: Plan, stage: str, index: Index) -> str:
    """Why a stage other than train and predict must run, in a few words; "" if it is up to date."""
    if stage == "folds" and plan.options.force:
        return "FORCE=1"
    return files_of_stage(plan, stage).reason_to_run(index)


def stale_predictions(plan: Plan, index: Index) -> dict[int, str]:
    """Fold -> reason, for the folds whose predictions are out of date."""
    reasons = {fold: predict_files(plan.paths, run_of(plan), fold).reason_to_run(index) for fold in plan.chosen}
    return {fold: reason for fold, reason in reasons.items() if reason}


def folds_mismatch(plan: Plan, index: Index) -> str:
    """A message if a fold was trained with another folds.csv, so that the stages will refuse it; "" if none was."""
    for fold in plan.trained:
        record = plan.paths.fold(plan.run, fold) / "trained.json"
        try:
            before = read_json(record, "made_of")["made_of"].get("folds_sha256")
        except (OSError, FoldwiseError, AttributeError):
            continue
        if before != index.sha256(plan.paths.folds):
            return f"{shown(record.parent)} was trained with other folds and will be refused"
    return ""


@dataclass(frozen=True)
class Step:
    """A stage that would run.

    stage: its name
    reason: why it would run
    folds: the folds that train or predict would work on; empty for other stages
    """

    stage: str
    reason: str
    folds: list[int]


def steps(plan: Plan, verb: str, index: Index) -> Iterator[Step]:
    """Yields what a verb would run.

    Assumes that all stages after one that runs will run too. In fact, each runs only if its input has changed by then.
    """
    after = ""
    for stage in STAGES[: STAGES.index(verb) + 1]:
        if stage == "train":
            if todo := plan.untrained:
                begun = "".join(f"; fold {fold} continues at step {step:,}" for fold, step in saved_steps(plan, todo))
                yield Step(stage, f"{fold_list(todo)} {'is' if len(todo) == 1 else 'are'} not trained{begun}", todo)
                after = stage
            elif not after and (fault := folds_mismatch(plan, index)):
                yield Step(stage, fault, [])
        elif stage == "predict":
            stale = stale_predictions(plan, index)
            todo = [fold for fold in plan.chosen if fold in stale or fold in plan.untrained or after in STAGES[:3]]
            if todo:
                reason = f"after {after}" if after else stale[todo[0]]
                yield Step(stage, f"{fold_list(todo)}: {reason}", todo)
                after = stage
        elif stage != "submit" or plan.has_test:
            reason = f"after {after}" if after else why(plan, stage, index)
            if reason:
                yield Step(stage, reason + (warn_of_trained_folds(plan) if stage == "folds" else ""), [])
                after = stage


def saved_steps(plan: Plan, folds: list[int]) -> Iterator[tuple[int, int]]:
    """Yields (fold, step of its newest checkpoint) for each of these folds that has a checkpoint."""
    for fold in folds:
        saved = plan.paths.fold(plan.run, fold).glob("checkpoints/*/manifest.json")
        if steps := [int(path.parent.name) for path in saved if path.parent.name.isdecimal()]:
            yield fold, max(steps)


def warn_of_trained_folds(plan: Plan) -> str:
    """A warning that new folds would make trained folds invalid; "" if this cannot happen, or with FORCE=1."""
    trained = len(list(plan.paths.runs.glob("*/fold*/trained.json")))
    if not trained or plan.options.force or plan.paths.dry_run:
        return ""
    return f"; if the folds change, it stops there, since {count_of(trained, 'trained fold')} would become invalid"


def fold_list(folds: list[int]) -> str:
    """``"fold 3"`` or ``"folds 0, 1, 4"``."""
    return f"fold{'s' * (len(folds) > 1)} {', '.join(map(str, folds))}"


def up_to_date(plan: Plan, verb: str) -> str:
    """A message for a verb that has nothing to do: what is up to date."""
    made = {
        "prepare": plan.paths.images,
        "manifest": plan.paths.manifest,
        "folds": plan.paths.folds,
        "ensemble": plan.paths.predictions(plan.run, plan.chosen, plan.num_folds).record,
        "submit": plan.submission,
    }
    if verb in ("train", "predict"):
        done = "trained" if verb == "train" else "predicted"
        return f"{count_of(len(plan.chosen), 'fold')} of {plan.run} {'is' if len(plan.chosen) == 1 else 'are'} {done}"
    if verb == "submit" and not plan.has_test:
        return f"there are no test images, and {shown(made['ensemble'])} is up to date"
    return f"{shown(made[verb])} is up to date"
