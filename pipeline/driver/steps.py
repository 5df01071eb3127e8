"""Finds which stages of a plan are out of date, and why. Standard library only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.driver.options import STAGES
from pipeline.driver.plan import Plan
from pipeline.records.names import fold_list, fold_name
from pipeline.records.up_to_date import (
    Run,
    StageFiles,
    ensemble_files,
    folds_files,
    manifest_files,
    predict_files,
    prepare_files,
    submit_files,
)
from pipeline.system.errors import FoldwiseError, count_of
from pipeline.system.files import read_json
from pipeline.system.index import Index
from pipeline.system.places import shown


def files_of_stage(plan: Plan, stage: str) -> StageFiles:
    """What a stage reads and makes; for all stages except train and predict, which work on single folds."""
    if stage == "prepare":
        return prepare_files(plan.paths, plan.facts)
    if stage == "manifest":
        return manifest_files(plan.paths, plan.facts)
    if stage == "folds":
        return folds_files(plan.paths, plan.facts)
    if stage == "ensemble":
        return ensemble_files(plan.paths, plan.facts, run_of(plan), plan.members)
    return submit_files(plan.paths, plan.facts, plan.paths.predictions(plan.run, plan.members))


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
    seed: the seed that they would work on
    """

    stage: str
    reason: str
    folds: list[int]
    seed: int = 0


def steps(plan: Plan, verb: str, index: Index) -> Iterator[Step]:
    """Yields what a verb would run.

    Assumes that all stages after one that runs will run too. In fact, each runs only if its input has changed by then.
    """
    after = ""
    for stage in STAGES[: STAGES.index(verb) + 1]:
        if stage in ("train", "predict"):
            of_seeds = [step for part in plan.of_seeds for step in fold_steps(part, stage, after, index)]
            yield from of_seeds
            after = stage if any(step.folds for step in of_seeds) else after
        elif stage != "submit" or plan.has_test:
            reason = f"after {after}" if after else why(plan, stage, index)
            if reason:
                yield Step(stage, reason + (warn_of_trained_folds(plan) if stage == "folds" else ""), [])
                after = stage


def fold_steps(plan: Plan, stage: str, after: str, index: Index) -> Iterator[Step]:
    """Yields the step of train or predict for the plan of one seed, if there is one.

    after: the last stage that would run before
    """
    of_seed = f"seed {plan.seed}: " if plan.members.seeds > 1 else ""
    if stage == "train":
        if todo := plan.untrained:
            begun = "".join(f"; {fold_name(fold)} continues at step {step:,}" for fold, step in saved_steps(plan, todo))
            verb = "is" if len(todo) == 1 and not plan.members.on_all_rows else "are"
            yield Step(stage, f"{of_seed}{fold_list(todo)} {verb} not trained{begun}", todo, plan.seed)
        elif not after and (fault := folds_mismatch(plan, index)):
            yield Step(stage, fault, [])
        return
    stale = stale_predictions(plan, index)
    if todo := [fold for fold in plan.chosen if fold in stale or fold in plan.untrained or after in STAGES[:3]]:
        reason = f"after {after}" if after else stale[todo[0]]
        yield Step(stage, f"{of_seed}{fold_list(todo)}: {reason}", todo, plan.seed)


def saved_steps(plan: Plan, folds: list[int]) -> Iterator[tuple[int, int]]:
    """Yields (fold, step of its newest checkpoint) for each of these folds that has a checkpoint."""
    for fold in folds:
        saved = plan.paths.fold(plan.run, fold).glob("checkpoints/*/manifest.json")
        if steps := [int(path.parent.name) for path in saved if path.parent.name.isdecimal()]:
            yield fold, max(steps)


def warn_of_trained_folds(plan: Plan) -> str:
    """A warning that new folds would make trained folds invalid; "" if this cannot happen, or with FORCE=1."""
    trained = sum((folder / "trained.json").exists() for folder in plan.paths.all_trainings)
    if not trained or plan.options.force or plan.paths.dry_run:
        return ""
    return f"; if the folds change, it stops there, since {count_of(trained, 'trained fold')} would become invalid"


def up_to_date(plan: Plan, verb: str) -> str:
    """A message for a verb that has nothing to do: what is up to date."""
    made = {
        "prepare": plan.paths.images,
        "manifest": plan.paths.manifest,
        "folds": plan.paths.folds,
        "ensemble": plan.paths.predictions(plan.run, plan.members).record,
        "submit": plan.submission,
    }
    if verb in ("train", "predict"):
        done = "trained" if verb == "train" else "predicted"
        which = plan.members.described
        return f"{which} of {plan.run} {'is' if which == '1 fold' else 'are'} {done}"
    if verb == "submit" and not plan.has_test:
        return f"there are no test images, and {shown(made['ensemble'])} is up to date"
    return f"{shown(made[verb])} is up to date"
