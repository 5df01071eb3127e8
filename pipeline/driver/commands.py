"""Builds the command line of each stage from a plan; all functions return arguments for Python."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pipeline.driver.options import Options
from pipeline.driver.plan import Plan
from pipeline.driver.steps import Step
from pipeline.records.names import typed_folds
from pipeline.system.threads import cores


def selection_options(plan: Plan, run: bool = False) -> list[str]:
    """Options that select the competition and, if ``run`` is true, the recipe and the settings."""
    options = plan.options
    words = [f"--competition={options.competition}", *(["--dry-run"] if options.dry_run else [])]
    if run:
        words += [f"--recipe={options.recipe}"] if options.recipe else []
        words += ["--set", *options.settings] if options.settings else []
    return words


def machine_options(options: Options) -> list[str]:
    """Options for the device, the loader processes and determinism."""
    words = ["--device", options.device] if options.device else []
    words += ["--workers", options.workers] if options.workers else []
    return words + (["--deterministic"] if options.deterministic else [])


def stage_module(plan: Plan, stage: str) -> list[str]:
    """The module of a stage or, with several ranks, the tool that starts them and its arguments."""
    return ["pipeline.tools.ranks", str(plan.ranks), stage] if plan.ranks > 1 else [f"pipeline.{stage}"]


def folds_option(folds: Sequence[int]) -> list[str]:
    """``["--folds", "0,1"]`` for folds 0 and 1."""
    return ["--folds", typed_folds(folds)]


def member_options(plan: Plan) -> list[str]:
    """Options for the folds and the number of seeds to combine; [] for all folds and one seed."""
    words = folds_option(plan.chosen) if plan.members.partial or plan.members.on_all_rows else []
    return words + (["--seeds", str(plan.members.seeds)] if plan.members.seeds > 1 else [])


def seed_option(plan: Plan) -> list[str]:
    """The option for the seed to train or predict; [] for that of the recipe."""
    return ["--seed", str(plan.seed)] if plan.seed else []


def command(plan: Plan, stage: str, folds: Sequence[int]) -> list[str]:
    """The command of a stage other than train. Only predict uses ``folds``: the folds that predict."""
    if stage == "predict":
        words = [
            *stage_module(plan, stage),
            *selection_options(plan, run=True),
            *folds_option(folds),
            *seed_option(plan),
            *machine_options(plan.options),
        ]
    elif stage in ("ensemble", "submit"):
        words = [f"pipeline.{stage}", *selection_options(plan, run=True), *member_options(plan)]
    else:
        forced = ["--force"] if stage == "folds" and plan.options.force else []
        words = [f"pipeline.{stage}", *selection_options(plan), *forced]
    return ["-m", *words]


def train_command(plan: Plan, fold: int) -> list[str]:
    """The command that trains a fold on this machine."""
    threads = plan.threads[fold] if plan.jobs == plan.folds_at_once else max(1, cores() // plan.jobs)
    words = [
        *stage_module(plan, "train"),
        *selection_options(plan, run=True),
        "--fold",
        typed_folds([fold]),
        *seed_option(plan),
        *machine_options(plan.options),
    ]
    words += ["--threads", str(threads)]
    return ["-m", *words, *(["--until", f"{plan.until:.0f}"] if plan.until is not None else [])]


def cluster_command(plan: Plan, folds: Sequence[int]) -> list[str]:
    """The command that trains folds on a Ray cluster."""
    options = plan.options
    words = [
        "pipeline.driver.cluster",
        *selection_options(plan, run=True),
        *folds_option(folds),
        *seed_option(plan),
        f"--address={options.cluster}",
    ]
    words += ["--gpus", options.gpus] if options.gpus else []
    words += ["--cpus", options.cpus] if options.cpus else []
    words += machine_options(options)
    return ["-m", *words, *(["--until", f"{plan.until:.0f}"] if plan.until is not None else [])]


def commands_of(plan: Plan, step: Step) -> Iterator[list[str]]:
    """Yields the commands of a step."""
    if step.stage in ("train", "predict"):
        plan = plan.of_seeds[step.seed]
    if step.stage != "train":
        yield command(plan, step.stage, step.folds or plan.chosen)
    elif plan.options.cluster and step.folds:
        yield cluster_command(plan, step.folds)
    else:
        yield from (train_command(plan, fold) for fold in step.folds)
