"""Say whether one run or blend is really better than another.

    make compare COMPETITION=dogs-vs-cats A=resnet18 B=lenet
    python -m pipeline.tools.compare --competition dogs-vs-cats --first resnet18 --second lenet

Reads   folds.csv, oof.npz and score.json of both, and oof.npz of the folds of runs that differ from them in their seed
Writes  nothing

Both are scored on the same out-of-fold rows. Which rows happen to be there is one kind of noise, which the paired
bootstrap measures: rows are drawn with replacement (groups, if there are groups), for both the same ones. The seed of a
training is another one, known if a run was trained with several seeds (SEEDS=3, or SET="seed=1").
"""

from __future__ import annotations

from pipeline.records.command_line import parser_for
from pipeline.system.console import answer_early

PARSER = parser_for(__doc__)
PARSER.add_argument("--first", required=True, metavar="NAME", help="a run or blend, as make runs lists them")
PARSER.add_argument("--second", required=True, metavar="NAME", help="the run or blend to compare it with")
if __name__ == "__main__":  # before the imports that take seconds
    answer_early(PARSER)

import numpy as np

from pipeline.records.competition import load_competition
from pipeline.records.paths import Paths
from pipeline.records.runs import Tables, read_tables
from pipeline.records.scored import ScoredRows, load_scored, trainings_by_seed
from pipeline.system.console import run_stage, say
from pipeline.system.errors import InputError, count_of
from pipeline.tasks.comparing import Difference, compare, variance_between_seeds


def noise_of_seeds(paths: Paths, tables: Tables, both: list[ScoredRows]) -> tuple[float | None, list[str]]:
    """The variance of a score by its seed alone, pooled over both runs, and the trainings that it is known from."""
    groups = {tuple(sorted(found)): (one, found) for one in both if (found := trainings_by_seed(paths, tables, one))}
    variances: list[float] = []
    weights: list[int] = []
    names: list[str] = []
    for group, (one, found) in groups.items():
        if len(group) > 1:
            variance = variance_between_seeds(tables.metric, one.truth, [*found.values()], one.units)
            if not np.isfinite(variance):
                continue
            variances.append(variance)
            weights.append(len(group) - 1)
            names += group
    return (float(np.average(variances, weights=weights)), names) if variances else (None, [])


def sentence(first: str, second: str, difference: Difference) -> str:
    """The difference in one sentence."""
    better, other = (first, second) if difference.gain >= 0 else (second, first)
    low, high = sorted([abs(difference.low), abs(difference.high)])
    if difference.is_real:
        size = f"{abs(difference.gain):.4f} (95 % interval {low:.4f} to {high:.4f})"
        return f"{better} is better than {other} by {size}: a real gain"
    interval = f"95 % interval {difference.low:+.4f} to {difference.high:+.4f}"
    return f"{first} and {second} differ by {difference.gain:+.4f} ({interval}): not to be told from noise"


def run(paths: Paths, first: str, second: str) -> Difference:
    """Compares two runs or blends."""
    if first == second:
        raise InputError(f"A and B are both {first}; name two different runs or blends")
    tables = read_tables(paths, load_competition(paths))
    both = [load_scored(paths, tables, name) for name in (first, second)]
    ids = both[0].rows["image_id"]
    ids = ids[ids.isin(both[1].rows["image_id"])]
    if ids.empty:
        raise InputError(f"{first} and {second} have no fold in common; compare runs with the same folds")
    if min(len(ids) - len(one.rows) for one in both) < 0:
        say("compare", f"note: they have different folds; only the {count_of(len(ids), 'row')} of both are compared")
    variance, trainings = noise_of_seeds(paths, tables, both)
    metric, (a, b) = tables.metric, (one.only(ids) for one in both)
    of_both = None if variance is None else variance * sum(1 / one.score.get("seeds", 1) for one in (a, b))
    difference = compare(metric, a.truth, a.values, b.values, a.units, of_both)

    if not np.isfinite(difference.gain):
        raise InputError(f"{metric.name} is not defined on the {count_of(len(ids), 'row')} of both runs")
    scores = " and ".join(f"{one.name} {metric(one.truth, one.values):.4f}" for one in (a, b))
    units = "" if len(ids) == len(set(a.units)) else f" in {count_of(len(set(a.units)), 'group')}"
    say("compare", f"out-of-fold {metric.name} on {count_of(len(ids), 'image')}{units}: {scores}")
    say("compare", sentence(first, second, difference))
    if variance is None:
        say("compare", "note: the noise between seeds is not known, and not included; train another seed (SEEDS=2)")
    else:
        spread = f"± {np.sqrt(variance):.4f} between seeds beyond that of the rows"
        say("compare", f"the interval includes {spread}, by {count_of(len(trainings), 'training')}")
    return difference


def main(argv: list[str] | None = None) -> None:
    args = PARSER.parse_args(argv)
    run(Paths(args.competition, args.dry_run), args.first, args.second)


if __name__ == "__main__":
    run_stage(main)
