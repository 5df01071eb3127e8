"""Implements the verbs: runs the stages that are out of date, one after another, or prints what would run."""

from __future__ import annotations

import importlib.util
import os
import runpy
import shlex
import shutil
import sys
import time

from pipeline.driver.commands import (
    cluster_command,
    command,
    commands_of,
    machine_options,
    member_options,
    selection_options,
    train_command,
)
from pipeline.driver.options import STAGES, VERBS, Options, read_options
from pipeline.driver.plan import Plan, make_plan
from pipeline.driver.processes import Processes
from pipeline.driver.steps import stale_predictions, steps, up_to_date, why
from pipeline.driver.view import View
from pipeline.records.names import fold_list, fold_name
from pipeline.records.paths import Paths, known_competitions, known_recipes
from pipeline.records.up_to_date import NOT_DONE_YET
from pipeline.system.console import say
from pipeline.system.errors import InputError, suggestion
from pipeline.system.index import Index
from pipeline.system.places import shown
from pipeline.system.processes import end_with_parent
from pipeline.system.signals import TIME_OVER

# --- running ----------------------------------------------------------------------------------------------------


def folds_at_once_with(plan: Plan, fold: int) -> int:
    """Number of folds that train at the same time as this one, including it."""
    return len(plan.last_round) if plan.jobs == plan.folds_at_once and fold in plan.last_round else plan.jobs


def run_one(words: list[str], name: str, environment: dict[str, str] | None = None) -> None:
    """Runs one process to its end; exits if it fails, after it has printed its error."""
    processes = Processes()
    with processes.signalled():
        processes.start(words, environment or {}, name)
        _, status = processes.next_ended()
    processes.exit_if_stopped()
    if status:
        sys.exit(1)


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


def bring_up_to_date(plan: Plan, verb: str) -> None:
    """Runs the stages up to ``verb``, each only if something that it read or made has changed."""
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
    if ran != verb:
        say(verb, f"nothing{' more' if ran else ''} to do: {up_to_date(plan, verb)}")
    elif verb == "train" and len(plan.chosen) * plan.members.seeds > 1 and not plan.of_seeds[-1].untrained:
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


def explain(plan: Plan, verb: str, with_commands: bool) -> None:
    """Prints what a verb would run: a line for each stage and, ``with_commands``, its command lines."""
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
    if not found:
        print(f"{verb}: nothing to do: {up_to_date(plan, verb)}")


# --- the verbs --------------------------------------------------------------------------------------------------


def show_help() -> None:
    """Prints the help page, as make without arguments does."""
    print("Foldwise: from a folder of images to a checked Kaggle submission. Start with: make submit\n")
    for verb, does in VERBS.items():
        print(f"  make {verb:<10} {does}")
    print(
        f"""
  make setup      install the packages of constraints.txt into .venv (the other commands do it too)
  make check test chaos bench      for developers of Foldwise itself

  COMPETITION=digits   a folder of data/ with a competition.toml; available: {" ".join(known_competitions())}
  RECIPE=resnet18      a file of pipeline/recipes/; available: {" ".join(known_recipes())}
  SET="epochs=2 lr=1e-3"   change keys of the recipe; this is a separate run
  FOLD=0  FOLDS=0,1    one fold to train; the folds to submit; FOLD=all trains one network on all rows
  SEEDS=3              train each fold with three seeds, and average them
  TEST=folder  IDS=ids.csv   submit predictions of another test folder, by a finished run
  DRY=1                a rehearsal: every stage on a few images
  DEVICE=cuda:1        the device (default: chosen automatically)
  WORKERS=4            number of loader processes (default: chosen by device)
  -j2                  train two folds side by side
  HOURS=8.5            stop after 8.5 hours and submit the trained folds; the same command continues
  GPUS=4               train each fold on four GPUs
  CLUSTER=auto         train the folds on a Ray cluster, for example with GPUS=0.5 CPUS=4 for each fold
  DETERMINISTIC=1      results that repeat bit for bit on CUDA too, but more slowly
  -n                   print what would run, and run nothing

Without make: python -m pipeline submit COMPETITION=digits"""
    )


def clean(plan_only: bool) -> None:
    """Deletes caches of pixels and features, and dry runs, which it finds by the names that Foldwise gives them."""
    for name in known_competitions():
        dry = Paths(name, dry_run=True)
        caches = [Paths(name).cache, dry.cache]
        doomed = [path for cache in caches for kind in ("side*.u8", "features-*") for path in cache.glob(kind)]
        doomed += dry.runs.glob("*")
        doomed += [dry.manifest, dry.manifest_record, dry.problems, dry.contact_sheet, dry.test_labels]
        doomed += [dry.folds, dry.folds_record, *dry.submissions.glob("*.csv"), *dry.submissions.glob("*.json")]
        for path in (path for path in doomed if path.exists()):
            print(f"{'would remove' if plan_only else 'removed'} {shown(path)}")
            if plan_only:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def write_toml(options: Options) -> None:
    """Unpacks the files of a competition that has no competition.toml, and has one written."""
    named = [f"--competition={options.competition}"]
    steps = [["-m", "pipeline.prepare", *named], ["-m", "pipeline.tools.new", *named]]
    if Paths(options.competition).toml.exists():
        steps = steps[1:]  # which says that there is one
    for words in steps:
        if options.plan_only:
            print(f"    python {shlex.join(words)}")
        else:
            run_one(words, "new")


def main() -> None:
    verb, *words = sys.argv[1:] or ["help"]
    if verb in ("-h", "--help", "help"):
        show_help()
        return
    if verb not in VERBS:
        raise InputError(f"there is no command '{verb}'{suggestion(verb, VERBS)}")
    options = read_options(words, os.environ)
    if os.environ.get("FORCE") and "FORCE" not in os.environ.get("FOLDWISE_MAKE", "FORCE").split():
        say(verb, "note: FORCE is set in the environment and has no effect; type it after make")
    if "FOLDWISE_MAKE" in os.environ:  # so that nothing continues if make is killed
        end_with_parent()
    if verb == "doctor":  # in this process, since it also works before anything is installed
        runpy.run_module("pipeline.tools.doctor", run_name="__main__")
        return
    if verb == "clean":
        clean(options.plan_only)
        return
    if verb == "results" and not options.plan_only:
        run_one(["-m", "pipeline.tools.results"], verb)
    if verb == "results":
        return
    if verb == "new":
        write_toml(options)
        return
    plan = make_plan(options)
    if options.test and verb != "submit":
        raise InputError(f"TEST is for make submit, not for make {verb}")
    if options.test:
        ids = [f"--ids={options.ids}"] if options.ids else []
        words = [
            "-m", "pipeline.tools.hidden", *selection_options(plan, run=True), *member_options(plan),
            f"--test={options.test}", *ids, *machine_options(options),
        ]  # fmt: skip
        if options.plan_only:
            print(f"    python {shlex.join(words)}")
        else:
            run_one(words, "submit")
        return
    if verb == "classify":
        image = [f"--image={options.image}"] if options.image else []
        words = ["-m", "pipeline.tools.classify", *selection_options(plan, run=True), *member_options(plan)]
        words += [*image, *machine_options(options)]
        if options.plan_only:
            print(f"    python {shlex.join(words)}")
        else:
            run_one(words, verb)
    elif verb == "why":
        explain(plan, "submit", with_commands=False)
    elif options.plan_only:
        explain(plan, verb, with_commands=True)
    else:
        bring_up_to_date(plan, verb)
