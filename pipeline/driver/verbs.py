"""Implements the verbs: runs the stages that are out of date, one after another, or prints what would run."""

from __future__ import annotations

import importlib.util
import shlex
import sys
import time

from pipeline.driver.commands import (
    cluster_command,
    command,
    commands_of,
    train_command,
)
from pipeline.driver.options import STAGES
from pipeline.driver.plan import Plan
from pipeline.driver.processes import Processes, run_one
from pipeline.driver.steps import stale_predictions, steps, up_to_date, why
from pipeline.driver.view import View
from pipeline.records.names import fold_list, fold_name
from pipeline.records.up_to_date import NOT_DONE_YET
from pipeline.system.console import say
from pipeline.system.errors import InputError
from pipeline.system.index import Index
from pipeline.system.signals import TIME_OVER

# --- running ----------------------------------------------------------------------------------------------------


def folds_at_once_with(plan: Plan, fold: int) -> int:
    """Number of folds that train at the same time as this one, including it."""
    return len(plan.last_round) if plan.jobs == plan.folds_at_once and fold in plan.last_round else plan.jobs


def train_here(plan: Plan, verb: str) -> None:
    """Trains the untrained folds, as many at once as the plan says.

    After an error, the running folds finish and no further fold starts; with make's -k, all other folds still start.
    """
    folders = {fold: plan.paths.fold(plan.run, fold) for fold in plan.chosen}
    processes = Processes(View(folders) if sys.stderr.isatty() else None)
    failed: list[int] = []
    left: list[int] = []
    todo = plan.untrained
    first, last = ([fold for fold in todo if (fold in plan.last_round) == is_last] for is_last in (False, True))
    with processes.signalled():
        for queue in (first, last):
            while queue or processes.running:
                if processes.asked or (failed and not plan.options.keep_going):
                    left += queue
                    queue.clear()
                while queue and len(processes.running) < plan.jobs:
                    start_fold(plan, processes, queue.pop(0), verb)
                if processes.running:
                    child, status = processes.next_ended()
                    failed += [child.fold] if status == 1 and child.fold is not None else []
    processes.exit_if_stopped()
    if failed and len(plan.chosen) > 1:
        not_begun = f"; {fold_list(left)} {'was' if len(left) == 1 else 'were'} not started" if left else ""
        sys.stderr.write(f"error: {fold_list(sorted(failed))} failed, see above{not_begun}\n")
    if failed:
        sys.exit(1)


def start_fold(plan: Plan, processes: Processes, fold: int, verb: str) -> None:
    """Starts the training of a fold, if there is time left."""
    if plan.until is not None and time.time() >= plan.until:
        say("train", f"{TIME_OVER}; {fold_name(fold)} was not started")
        return
    if processes.view is None:
        say("train", f"starting {fold_name(fold)} of {plan.run}")
    environment = {"FOLDWISE_BESIDE": str(folds_at_once_with(plan, fold))} if folds_at_once_with(plan, fold) > 1 else {}
    if verb == "train" and len(plan.chosen) == plan.members.seeds == 1:
        environment["FOLDWISE_NEXT"] = "1"
    processes.start(train_command(plan, fold), environment, fold_name(fold), fold)


def bring_up_to_date(plan: Plan, verb: str, quiet: bool = False) -> None:
    """Runs the stages up to ``verb``, each only if something that it read or made has changed.

    quiet: True to say nothing if there is nothing to do
    """
    index, ran = Index(plan.paths.home), ""
    for stage in STAGES[: STAGES.index(verb) + 1]:
        for part in plan.of_seeds if stage in ("train", "predict") else [plan]:
            folds, reason = work_to_do(part, stage, index)
            if not reason:
                continue
            if not ran:
                check_choices(plan)
            if reason != NOT_DONE_YET:
                say(stage, f"runs again: {reason}")
            index.save()
            run_stage(part, stage, folds, verb)
            index, ran = Index(plan.paths.home), stage
        if stage == "train" and plan.until is not None and verb != "train":
            plan = with_trained_folds(plan)
    index.save()
    if ran != verb and not quiet:
        say(verb, f"nothing{' more' if ran else ''} to do: {up_to_date(plan, verb)}")
    elif ran == verb == "train" and len(plan.chosen) * plan.members.seeds > 1 and not plan.of_seeds[-1].untrained:
        say(verb, f"{up_to_date(plan, verb)}; next: {plan.options.make_line('submit')}")


def run_stage(plan: Plan, stage: str, folds: list[int], verb: str) -> None:
    """Runs a stage; train and predict work on these folds, with the seed of the plan."""
    if stage == "train" and plan.options.cluster:
        run_one(cluster_command(plan, folds), "the cluster driver")
    elif stage == "train":
        train_here(plan, verb)
    else:
        if stage == "predict":
            say(stage, f"starting {fold_list(folds)} of {plan.run}")
        next_too = {"FOLDWISE_NEXT": "1"} if stage == verb else {}
        run_one(command(plan, stage, folds), f"the stage {stage}", next_too)


def work_to_do(plan: Plan, stage: str, index: Index) -> tuple[list[int], str]:
    """The folds that train or predict must work on ([] for other stages), and why the stage must run ("" if not)."""
    if stage == "train":
        return plan.untrained, NOT_DONE_YET if plan.untrained else ""
    if stage == "predict":
        reasons = stale_predictions(plan, index)
        return [*reasons], next(iter(reasons.values()), "")
    return [], why(plan, stage, index) if stage != "submit" or plan.has_test else ""


def check_choices(plan: Plan) -> None:
    """Raises FoldwiseError for an invalid competition.toml, recipe or setting, before the first stage starts."""
    if importlib.util.find_spec("pydantic") is None:  # nothing is installed yet
        return
    from pipeline.records.competition import load_competition
    from pipeline.records.recipe import load_recipe

    load_competition(plan.paths)
    load_recipe(plan.recipe, plan.options.settings)


def with_trained_folds(plan: Plan) -> Plan:
    """The plan with only the folds and seeds that were trained in time; raises FoldwiseError if there are none."""
    if (finished := plan.finished) is None:
        raise InputError(f"no fold is trained after {plan.options.hours:g} hours; the same command continues")
    return finished


def explain(plan: Plan, verb: str, with_commands: bool, quiet: bool = False) -> None:
    """Prints what a verb would run: a line for each stage and, ``with_commands``, its command lines.

    quiet: True to say nothing if there is nothing to do
    """
    index = Index(plan.paths.home)
    found = [(plan, step) for step in steps(plan, verb, index)]
    if plan.until is not None and plan.finished is not None and "predict" in STAGES[: STAGES.index(verb) + 1]:
        later = STAGES[STAGES.index("predict") :]
        found = [(of_plan, step) for of_plan, step in found if step.stage not in later]
        found += [(plan.finished, step) for step in steps(plan.finished, verb, index) if step.stage in later]
    index.save()
    if found:
        check_choices(plan)
    for of_plan, step in found:
        print(f"{step.stage}: {step.reason}")
        for words in commands_of(of_plan, step) if with_commands else []:
            print(f"    python {shlex.join(words)}")
    if not found and not quiet:
        print(f"{verb}: nothing to do: {up_to_date(plan, verb)}")
