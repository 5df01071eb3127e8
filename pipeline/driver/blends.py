"""The verbs of a blend: brings its runs up to date, then the blend, then its submission.

A blend trains nothing: a run that is not trained completely is refused.
"""

from __future__ import annotations

import shlex
from dataclasses import replace

from pipeline.driver.options import Options
from pipeline.driver.plan import Plan, make_plan
from pipeline.driver.processes import run_one
from pipeline.driver.verbs import bring_up_to_date, explain
from pipeline.records.named import call_named
from pipeline.records.names import blend_name, fold_list
from pipeline.records.paths import Paths
from pipeline.records.up_to_date import NOT_DONE_YET, StageFiles, blend_files, submit_files
from pipeline.system.console import say
from pipeline.system.errors import InputError, StaleError
from pipeline.system.files import read_record
from pipeline.system.index import Index
from pipeline.system.places import shown


def runs_of(options: Options, paths: Paths) -> list[str]:
    """The names of the runs to blend: as typed, else those of the existing blend."""
    if options.runs.split():
        return options.runs.split()
    if not options.blend:
        raise InputError('make blend needs the names of runs, such as RUNS="resnet18 lenet"; make runs lists them')
    record = paths.blend(options.blend).record
    if not record.exists():
        there = sorted(path.parent.name for path in paths.blends.glob("*/score.json"))
        listed = f"there are {', '.join(there)}" if there else "there is none"
        raise InputError(f'there is no blend {options.blend} ({listed}); to make it, add RUNS="name name ..."')
    return list(read_record(record, "members")["members"])


def plan_of(options: Options, paths: Paths, name: str) -> Plan:
    """The plan of one of the runs; raises FoldwiseError if it is not trained completely."""
    call = call_named(paths, name)
    options = replace(options, recipe=call.recipe, settings=call.settings, folds=call.folds, seeds=call.seeds)
    plan = make_plan(replace(options, blend="", runs="", hours=None))
    for part in plan.of_seeds:
        if part.untrained:
            raise StaleError(
                f"{fold_list(part.untrained)} of {part.run} {'is' if len(part.untrained) == 1 else 'are'} not trained; "
                f"type: {call.make_line('ensemble')}"
            )
    return plan


def blend(options: Options, verb: str) -> None:
    """Brings the runs, the blend and, unless the verb is "blend", its submission up to date, or says what would run."""
    paths = Paths(options.competition, options.dry_run)
    facts, names = paths.facts(), runs_of(options, paths)
    plans = [plan_of(options, paths, name) for name in names]
    for plan in plans:
        if verb == "why" or options.plan_only:
            explain(plan, "ensemble", with_commands=verb != "why", quiet=True)
        else:
            bring_up_to_date(plan, "ensemble", quiet=True)
    name = blend_name(names, options.blend)
    runs = [plan.paths.predictions(plan.run, plan.members) for plan in plans]
    base = [f"--competition={options.competition}", *(["--dry-run"] if options.dry_run else [])]
    todo: dict[str, tuple[StageFiles, list[str]]] = {
        "blend": (
            blend_files(paths, facts, runs, name),
            ["-m", "pipeline.tools.blend", *base, f"--name={name}", "--runs", *names],
        )
    }
    if verb != "blend" and plans[0].has_test:
        made = paths.blend(name)
        todo["submit"] = submit_files(paths, facts, made), ["-m", "pipeline.submit", *base, f"--blend={name}"]
    for stage, (files, words) in todo.items():
        index = Index(paths.home)
        reason = files.reason_to_run(index)
        index.save()
        if verb == "why" or options.plan_only:
            print(f"{stage}: {reason or f'nothing to do: {shown(files.record)} is up to date'}")
            if reason and verb != "why":
                print(f"    python {shlex.join(words)}")
        elif reason:
            if reason != NOT_DONE_YET:
                say(stage, f"runs again: {reason}")
            run_one(words, stage, {"FOLDWISE_NEXT": "1"} if stage == verb else {})
        else:
            say(stage, f"nothing to do: {shown(files.record)} is up to date")
