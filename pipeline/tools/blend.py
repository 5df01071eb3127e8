"""Blend the predictions of several runs, with an honest score.

    make blend COMPETITION=dogs-vs-cats RUNS="resnet18 lenet features"
    python -m pipeline.tools.blend --competition dogs-vs-cats --runs resnet18 lenet features --name best

Reads   folds.csv, and for each run oof.npz, score.json and fold<k>/test.npz. The runs must be combined (make ensemble)
Writes  blends/<name>/oof.npz and test.npz, the same as CSV, and, last, score.json, as for a run; ledger.csv gets a row

Several ways to blend are tried. What a way learns, such as weights, is learnt from out-of-fold rows; its honest score
is that of rows that it was not learnt from. The way with the best honest score is used, or the plain mean if none is
clearly better. Each row of oof.npz is blended by what the other folds have taught.

Legend: K runs, N rows, C targets.
"""

from __future__ import annotations

from pipeline.records.command_line import parser_for
from pipeline.system.console import answer_early

PARSER = parser_for(__doc__)
PARSER.add_argument("--runs", nargs="+", required=True, metavar="RUN", help="the names of the runs to blend")
PARSER.add_argument("--name", default="", help="the name of the blend (default: the names of the runs)")
if __name__ == "__main__":  # before the imports that take seconds
    answer_early(PARSER)

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from pipeline.records.combined import Prediction, members_of_test, table_of_oof, table_of_test, write_prediction
from pipeline.records.command_line import Machine
from pipeline.records.competition import load_competition
from pipeline.records.job import Job, job_of_call
from pipeline.records.ledger import add_prediction
from pipeline.records.named import call_named
from pipeline.records.names import blend_name, fold_list
from pipeline.records.paths import Paths, known_recipes
from pipeline.records.predictions import Predictions
from pipeline.records.runs import Tables, check_run, identity, read_tables
from pipeline.records.score_words import report_score
from pipeline.records.scoring import summarize, truth_and_values, units_of
from pipeline.records.task import metric_sha256
from pipeline.records.up_to_date import blend_files, ensemble_files
from pipeline.system.console import progress, run_stage, say
from pipeline.system.errors import InputError, StaleError
from pipeline.system.files import fingerprint, read_record, write_record
from pipeline.system.index import Index
from pipeline.system.places import shown
from pipeline.system.provenance import provenance
from pipeline.tasks.blending import Elsewhere, Scored, ways_for
from pipeline.tasks.comparing import corrected_for_choice, error_of_gain, improvement, is_clearly_better
from pipeline.tasks.nesting import own_values, parts_of


@dataclass(frozen=True)
class Way:
    """A way to blend, and what it is worth.

    elsewhere: how predictions follow from the rows to learn from
    optimistic: score of the rows that it was learnt from
    honest: score of rows that it was not learnt from
    values: what the metric looks at, (N, ...), for the honest score
    """

    elsewhere: Elsewhere
    optimistic: float
    honest: float
    values: np.ndarray


def check_runs(jobs: list[Job], tables: Tables) -> None:
    """Raises FoldwiseError if a run is out of date, or if the runs have different folds."""
    index = Index(jobs[0].paths.home)
    for job in jobs:
        again = f"type: {job.call.make_line('ensemble')}"
        for part in job.of_seeds:
            check_run(part.paths, part.run.name, identity(part, tables.task, tables.manifest))
        if reason := ensemble_files(job.paths, job.paths.facts(), job.run, job.members).reason_to_run(index):
            raise StaleError(f"the predictions of {job.predictions.name} are out of date: {reason}; {again}")
        if job.folds != jobs[0].folds:
            raise InputError(
                f"{job.predictions.name} has {fold_list(job.folds)}, but {jobs[0].predictions.name} has "
                f"{fold_list(jobs[0].folds)}; blend runs with the same folds"
            )
    index.save()


def read_stack(jobs: list[Job], rows: pd.DataFrame, target_names: list[str]) -> np.ndarray:
    """Out-of-fold predictions (K, N, C) of all runs, joined by id."""
    stack = []
    for job in jobs:
        files, again = job.predictions, f"type: {job.call.make_line('ensemble')}"
        loaded = Predictions.load(files.oof, read_record(files.record)["sha256"].get("oof", ""), again)
        stack.append(loaded.aligned(rows["image_id"], target_names, shown(files.oof), again))
    return np.stack(stack)


def try_ways(rows: pd.DataFrame, tables: Tables, stack: np.ndarray) -> dict[str, Way]:
    """All ways that suit the task, each with its two scores."""
    task, metric = tables.task, tables.metric
    scored = Scored(task, metric, task.targets(rows["label"]), stack)
    found = {}
    ways = ways_for(task, stack)
    for name in progress(ways, len(ways), "blend", "ways"):
        elsewhere = Elsewhere(ways[name], scored)
        truth, values = truth_and_values(rows, tables, elsewhere)
        folds, units = rows["fold"].to_numpy(), units_of(rows)
        own = own_values(task, metric, scored.targets, elsewhere(np.ones(len(rows), bool)), folds, units)
        found[name] = Way(elsewhere, metric(truth, own), metric(truth, values), values)
    return found


def choose(tables: Tables, truth: np.ndarray, units: np.ndarray, ways: dict[str, Way]) -> tuple[str, float]:
    """The name of the way to use, and how much its score would change without the luck of having been chosen.

    It is the way with the best honest score, or the plain mean unless that one is clearly better.
    """
    metric, plain = tables.metric, next(iter(ways))
    best = plain
    for name, way in ways.items():
        best = name if metric.is_better(way.honest, ways[best].honest) else best
    if not is_clearly_better(metric, truth, ways[best].values, ways[plain].values, units, errors=1):
        return plain, 0.0
    corrected = corrected_for_choice(metric, truth, [way.values for way in ways.values()], units)
    luck = corrected - ways[best].honest
    return best, luck if improvement(metric, corrected, ways[best].honest) < 0 else 0.0


def without_each(rows: pd.DataFrame, tables: Tables, way: Way) -> list[dict[str, float]]:
    """For each run, how much worse the honest score is without it, and the standard error of that."""
    metric, scored, found = tables.metric, way.elsewhere.scored, []
    for run in progress(range(len(scored.stack)), len(scored.stack), "blend", "leaving out runs"):
        others = Scored(scored.task, metric, scored.targets, np.delete(scored.stack, run, axis=0))
        truth, values = truth_and_values(rows, tables, Elsewhere(way.elsewhere.way, others))
        error = error_of_gain(metric, truth, way.values, values, units_of(rows))
        found.append({"adds": improvement(metric, way.honest, metric(truth, values)), "error": error})
    return found


def correlation_of_errors(scored: Scored) -> list[list[float]]:
    """Correlation (K, K) of the errors of the runs; the lower it is, the more they gain by blending."""
    errors = (scored.stack - scored.targets).reshape(len(scored.stack), -1)
    errors = errors + 1e-12 * np.arange(errors.shape[1])  # so that a run without errors has a correlation too
    return [[float(value) for value in row] for row in np.atleast_2d(np.corrcoef(errors))]


def report(score: dict[str, Any]) -> None:
    """Prints the table of the ways, and that of the runs."""
    print(f"    {'way':<18}{'optimistic':>12}{'honest':>10}")
    for name, of_way in score["ways"].items():
        mark = "  <- used" if name == score["way"] else ""
        print(f"    {name:<18}{of_way['optimistic']:>12.4f}{of_way['honest']:>10.4f}{mark}")
    width = max(len(name) for name in score["members"]) + 2
    print(f"\n    {'run':<{width}}{'alone':>8}{'share':>8}{'adds':>10}{'±':>8}   its errors correlate with the others'")
    for place, name in enumerate(score["members"]):
        share = f"{score['weights'][place]:.2f}" if score["weights"] else "-"
        of_run, others = score["without"][place], np.delete(score["correlations"][place], place)
        with_others = " ".join(f"{value:.2f}" for value in others[:8]) + (" ..." if len(others) > 8 else "")
        print(
            f"    {name:<{width}}{score['scores_alone'][place]:>8.4f}{share:>8}{of_run['adds']:>+10.4f}"
            f"{of_run['error']:>8.4f}   {with_others}"
        )
    print("    adds: how much worse the honest score would be without the run, with its standard error\n")


def checked_name(names: list[str], name: str) -> str:
    """The name of the blend of these runs; raises FoldwiseError if they cannot be blended, or for a wrong name."""
    if len(set(names)) < 2:
        raise InputError(f"a blend needs at least two different runs, but RUNS names {', '.join(sorted(set(names)))}")
    if repeated := next((one for one in names if names.count(one) > 1), ""):
        raise InputError(f"RUNS names {repeated} twice; its share in the blend is found without that")
    name = blend_name(names, name)
    if name.partition("~")[0] in known_recipes() and "+" not in name:
        raise InputError(f"BLEND={name} could be the name of a run; choose another name for the blend")
    return name


def made_of_runs(jobs: list[Job]) -> dict[str, Any]:
    """The runs of a blend, as score.json has them: so that they can be found, and made again."""
    return {
        "members": [job.predictions.name for job in jobs],
        "runs": [job.run.name for job in jobs],
        "calls": [asdict(job.call) for job in jobs],
    }


def run(jobs: list[Job], name: str = "") -> Prediction:
    """Blends the runs of the jobs, all of one competition; name: of the blend, "" for the names of the runs."""
    first = jobs[0]
    paths, competition = first.paths, first.competition
    name = checked_name([job.predictions.name for job in jobs], name)
    target = blend_files(paths, paths.facts(), [job.predictions for job in jobs], name)
    read, tables = target.hash_inputs(), read_tables(paths, competition)
    check_runs(jobs, tables)
    task, metric, rows = tables.task, tables.metric, tables.rows_of(first.folds)
    stack = read_stack(jobs, rows, task.target_names)

    ways = try_ways(rows, tables, stack)
    truth = task.compared(metric, task.truth(task.targets(rows["label"])))
    if not any(np.isfinite(way.honest) for way in ways.values()):
        raise InputError(f"{metric.name} is not defined on the {len(rows):,} out-of-fold rows, so no way can be chosen")
    chosen, luck = choose(tables, truth, units_of(rows), ways)
    way = ways[chosen]
    learnt = way.elsewhere.way(way.elsewhere.scored)
    by_run = [members_of_test(job, tables) for job in jobs]
    members = [learnt.blend(np.stack(of_fold)) for of_fold in zip(*by_run, strict=True)]
    records = [read_record(job.predictions.record) for job in jobs]
    everything = np.ones(len(rows), bool)
    score = {
        "blend": name,
        **made_of_runs(jobs),
        "way": chosen,
        "weights": learnt.weights,
        "ways": {name: {"optimistic": one.optimistic, "honest": one.honest} for name, one in ways.items()},
        "scores_alone": [record["cv_score"] for record in records],
        "without": without_each(rows, tables, way),
        "correlations": correlation_of_errors(way.elsewhere.scored),
        "luck": luck,
        "folds": first.folds,
        "seeds": 1,
        "partial": first.members.partial,
        "metric": metric.name,
        "metric_sha256": metric_sha256(competition, paths),
        **summarize(rows, tables, way.elsewhere(everything), members, way.elsewhere, luck),
        "train_score": None,
        "training_seconds": sum(record["training_seconds"] for record in records),
        "device": records[0]["device"],
        "folds_sha256": fingerprint(paths.folds),
        "manifest_sha256": fingerprint(paths.manifest),
    }
    out_of_fold = way.elsewhere.out_of_fold(parts_of(rows["fold"].to_numpy(), units_of(rows)))
    test = table_of_test(task, members, tables.test_ids)
    prediction = Prediction(table_of_oof(task, rows, out_of_fold), test, score)
    sha256, made = write_prediction(paths.blend(name), task, prediction)
    score = {**score, "sha256": sha256, **target.new_record(read, made), **provenance()}
    add_prediction(paths, "blend", name, score, first.num_folds)
    write_record(target.record, score)
    report(score)
    report_score(score, len(tables.test_ids), "blend")
    call = replace(first.call, recipe="", settings=(), folds="", seeds=1, blend=name)
    say("blend", f"{len(jobs)} runs blended by {chosen} -> {shown(paths.blend(name).folder)}{call.next_step('submit')}")
    return prediction


def main(argv: list[str] | None = None) -> None:
    args = PARSER.parse_args(argv)
    paths = Paths(args.competition, args.dry_run)
    load_competition(paths)
    run([job_of_call(call_named(paths, name), Machine()) for name in args.runs], args.name)


if __name__ == "__main__":
    run_stage(main)
