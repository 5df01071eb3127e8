"""The verbs beside the stages: help, tools, and what makes room."""

from __future__ import annotations

import runpy
import shlex
import shutil
from collections.abc import Callable

from pipeline.driver.commands import machine_options, member_options, selection_options
from pipeline.driver.options import VERBS, Options
from pipeline.driver.plan import Plan, make_plan
from pipeline.driver.processes import run_one
from pipeline.driver.reproduction import reproduce
from pipeline.records.paths import Paths, known_competitions, known_recipes
from pipeline.system.errors import InputError
from pipeline.system.places import shown


def show_help() -> None:
    """Prints the help page, as make without arguments does."""
    print("Foldwise: from a folder of images to a checked Kaggle submission. Start with: make submit\n")
    for verb, does in VERBS.items():
        print(f"  make {verb:<10} {does}")
    print(
        f"""
  make setup      install the packages of constraints.txt into .venv (the other commands do it too)
  make check check-gpu test chaos bench   for developers of Foldwise itself

  COMPETITION=digits   a folder of data/ with a competition.toml; available: {" ".join(known_competitions())}
  RECIPE=resnet18      a file of pipeline/recipes/; available: {" ".join(known_recipes())}
  SET="epochs=2 lr=1e-3"   change keys of the recipe; this is a separate run
  FOLD=0  FOLDS=0,1    one fold to train; the folds to submit; FOLD=all trains one network on all rows
  SEEDS=3              train each fold with three seeds, and average them
  BLEND=name           submit a blend (make blend) instead of a run
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
        doomed += [*dry.blends.glob("*"), dry.ledger, *Paths(name).home.glob("reproduced/*")]
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
    if not Paths(options.competition).toml.exists():  # else the tool says that there is one
        run_or_print(options, "new", ["-m", "pipeline.prepare", f"--competition={options.competition}"])
    run_or_print(options, "new", tool(options, "new"))


def tool(options: Options, name: str) -> list[str]:
    """The command of a tool on a competition."""
    words = ["-m", f"pipeline.tools.{name}", f"--competition={options.competition}"]
    return words + (["--dry-run"] if options.dry_run else [])


def run_or_print(options: Options, verb: str, words: list[str]) -> None:
    """Runs a command, or only prints it if the user asks for the plan."""
    if options.plan_only:
        print(f"    python {shlex.join(words)}")
    else:
        run_one(words, verb)


def submit_folder(plan: Plan) -> None:
    """Submits predictions of another test folder, by a finished run."""
    options = plan.options
    words = ["-m", "pipeline.tools.hidden", *selection_options(plan, run=True), *member_options(plan)]
    words += [f"--test={options.test}", *([f"--ids={options.ids}"] if options.ids else [])]
    run_or_print(options, "submit", [*words, *machine_options(options)])


def classify(options: Options) -> None:
    """Classifies an image or a folder."""
    plan = make_plan(options)
    words = ["-m", "pipeline.tools.classify", *selection_options(plan, run=True), *member_options(plan)]
    words += [f"--image={options.image}"] if options.image else []
    run_or_print(options, "classify", [*words, *machine_options(options)])


def list_runs(options: Options) -> None:
    """Lists all runs, or notes the leaderboard score of one."""
    noted = [f"--score={options.score}"] if options.score else []
    run_or_print(options, "runs", [*tool(options, "runs"), *noted])


def compare(options: Options) -> None:
    """Compares two runs."""
    if not (options.a and options.b):
        raise InputError("make compare needs the names of two runs or blends: A=name B=name; make runs lists them")
    run_or_print(options, "compare", [*tool(options, "compare"), f"--first={options.a}", f"--second={options.b}"])


def report(options: Options) -> None:
    """Makes the page of a run or blend or, if none is named, that of all runs."""
    if options.blend:
        words = [*tool(options, "report"), f"--blend={options.blend}"]
    elif options.recipe or options.settings or options.folds or options.seeds > 1:
        plan = make_plan(options)
        words = ["-m", "pipeline.tools.report", *selection_options(plan, run=True), *member_options(plan)]
        words += machine_options(options)
    else:
        words = [*tool(options, "report"), "--all-runs"]
    run_or_print(options, "report", words)


def doctor(options: Options) -> None:
    """Checks the machine; in this process, since it also works before anything is installed."""
    runpy.run_module("pipeline.tools.doctor", run_name="__main__")


#: The verbs that run no stages.
BESIDE: dict[str, Callable[[Options], None]] = {
    "new": write_toml,
    "classify": classify,
    "runs": list_runs,
    "compare": compare,
    "report": report,
    "reproduce": reproduce,
    "results": lambda options: run_or_print(options, "results", ["-m", "pipeline.tools.results"]),
    "doctor": doctor,
    "clean": lambda options: clean(options.plan_only),
}
