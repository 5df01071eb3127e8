"""List all runs and blends, best first, or note the leaderboard score of one.

    make runs COMPETITION=dogs-vs-cats
    make runs COMPETITION=dogs-vs-cats SCORE="resnet18=0.4512"
    python -m pipeline.tools.runs --competition dogs-vs-cats

Reads   ledger.csv, and for the correction folds.csv, oof.npz and score.json of the runs that are there
Writes  with SCORE, a row of ledger.csv

The best of many runs is partly the luckiest one, and so is its score. Below the list stands what it is without that
luck, by bootstrap bias corrected cross-validation (doi 10.1007/s10994-018-5714-4).
"""

from __future__ import annotations

from pipeline.records.command_line import parser_for
from pipeline.system.console import answer_early

PARSER = parser_for(__doc__)
PARSER.add_argument("--score", default="", metavar="NAME=SCORE", help="the leaderboard score of a submission to note")
if __name__ == "__main__":  # before the imports that take seconds
    answer_early(PARSER)

import numpy as np
import pandas as pd

from pipeline.records.competition import load_competition
from pipeline.records.ledger import add_row, cells_of, number_in, parse_leaderboard, read_ledger
from pipeline.records.named import known_predictions
from pipeline.records.paths import Paths, PredictionFolder
from pipeline.records.runs import read_tables
from pipeline.records.scored import ScoredRows, load_scored
from pipeline.records.task import metric_of, read_task
from pipeline.system.console import duration, progress, run_stage, say
from pipeline.system.errors import InputError, StaleError, suggestion
from pipeline.system.files import fingerprint, read_record
from pipeline.system.places import shown
from pipeline.tasks.comparing import corrected_for_choice
from pipeline.tasks.intervals import bootstrap
from pipeline.tasks.metrics import Metric


def note_score(paths: Paths, text: str) -> None:
    """Notes the leaderboard score of a submission; raises FoldwiseError if there is no submission of this name."""
    name, value = parse_leaderboard(text)
    ledger = read_ledger(paths)
    made = sorted(set(ledger.loc[ledger["what"] == "submission", "name"]))
    if name not in made:
        listed = suggestion(name, made) or (f"; there are {', '.join(made)}" if made else "; none was made yet")
        raise InputError(f"there is no submission '{name}' of {paths.competition}{listed}")
    add_row(paths, "leaderboard", name, score=value)
    say("runs", f"leaderboard score {value:g} of {name} -> {shown(paths.ledger)}")


def older_row(folder: PredictionFolder, num_folds: int) -> dict[str, str]:
    """The row of a prediction that is not in the ledger, since it was made before there was one."""
    score = read_record(folder.record)
    cells = {"when": "", "what": "blend" if folder.is_blend else "run", "name": folder.name}
    cells |= cells_of(score, num_folds)
    return {name: "" if value is None else str(value) for name, value in cells.items()}


def table_of(paths: Paths, metric: Metric, num_folds: int) -> pd.DataFrame:
    """The last row of each run and blend, best first; those with another metric, other or only some folds follow.

    Columns: name, what, score, interval, expected, leaderboard, time, seconds, folds, when, note
    """
    ledger = read_ledger(paths)
    last = ledger[ledger["what"].isin(["run", "blend"])].drop_duplicates(["what", "name"], keep="last")
    on_board = ledger[ledger["what"] == "leaderboard"].drop_duplicates("name", keep="last").set_index("name")
    there, now = known_predictions(paths), fingerprint(paths.folds) if paths.folds.exists() else ""
    older = [older_row(folder, num_folds) for name, folder in there.items() if name not in set(last["name"])]
    lines = []
    for row in [*last.to_dict("records"), *older]:
        score, low, high, expected = (number_in(row, column) for column in ("score", "low", "high", "expected"))
        notes = [f"metric {row['metric']}"] if row["metric"] != metric.name else []
        notes += ["other folds"] if row["folds_sha256"] != now else []
        notes += ["some folds only"] if is_partial(row["folds"]) else []
        notes += ["no predictions"] if row["name"] not in there else []
        lines.append({
            "name": row["name"], "what": row["what"], "score": score,
            "interval": "" if low is None or high is None else f"{low:.4f} to {high:.4f}", "expected": expected,
            "leaderboard": number_in(on_board.loc[row["name"]], "score") if row["name"] in on_board.index else None,
            "time": duration(number_in(row, "seconds") or 0), "seconds": number_in(row, "seconds") or 0,
            "folds": row["folds"] + seeds_of(row["seeds"]),
            "when": row["when"], "note": ", ".join(notes),
        })  # fmt: skip
    sign = -1 if metric.greater_is_better else 1

    def order(line: dict) -> tuple[bool, bool, float]:
        is_other = line["note"].startswith(("metric", "other folds", "some folds"))
        return is_other, line["score"] is None, sign * (line["score"] or 0)

    columns = (
        "name",
        "what",
        "score",
        "interval",
        "expected",
        "leaderboard",
        "time",
        "seconds",
        "folds",
        "when",
        "note",
    )
    return pd.DataFrame(sorted(lines, key=order), columns=list(columns))


def is_partial(folds: str) -> bool:
    """True for ``"2 of 5"``."""
    some, _, all_folds = folds.partition(" of ")
    return bool(all_folds) and some != all_folds


def seeds_of(text: str) -> str:
    """``" x 3 seeds"``, or "" for one seed."""
    return f" x {text} seeds" if text not in ("", "1") else ""


def show(table: pd.DataFrame, metric: Metric) -> None:
    """Prints the table, without columns that are empty."""
    table = table.assign(
        **{
            name: [f"{value:.4f}" if pd.notna(value) else "" for value in table[name]]
            for name in ("score", "expected", "leaderboard")
        }
    )
    table = table.drop(columns="seconds").loc[:, (table.drop(columns="seconds") != "").any()]
    names = {"score": f"out-of-fold {metric.name}", "interval": "95 % interval"}
    print(table.rename(columns=names).to_string(index=False))


def comparable(paths: Paths, table: pd.DataFrame) -> list[ScoredRows]:
    """The rows of the runs and blends that are scored on all folds with the same metric, and still there."""
    tables = read_tables(paths, load_competition(paths))
    names = list(
        table.loc[(table["note"] == "") & table["score"].notna() & ~table["name"].str.contains("~all"), "name"]
    )
    found = []
    for name in progress(names, len(names), "runs", "reading"):
        try:
            scored = load_scored(paths, tables, name)
        except StaleError as fault:
            say("runs", f"note: {fault}")
            continue
        found += [scored] if not scored.score["partial"] else []
    return found


def best_of(scored: list[ScoredRows], metric: Metric) -> str:
    """The score of the best of several runs, and what it is without the luck of having been chosen; "" for one run."""
    scores = [metric(one.truth, one.values) for one in scored]
    if len(scored) < 2 or not np.isfinite(scores).any():
        return ""
    first = scored[int(np.nanargmax(scores) if metric.greater_is_better else np.nanargmin(scores))]
    corrected = corrected_for_choice(metric, first.truth, [one.values for one in scored], first.units)
    best = metric(first.truth, first.values)
    corrected = corrected if metric.is_better(best, corrected) else best
    rng = np.random.default_rng(0)
    error = float(np.nanstd(bootstrap(metric, first.truth, first.values, first.units, len(first.truth), rng)))
    return (
        f"the best of these {len(scored)}, {first.name}, has {metric.name} {best:.4f}; corrected for having been "
        f"chosen: {corrected:.4f} ± {error:.4f}"
    )


def run(paths: Paths, score: str = "") -> pd.DataFrame:
    """Prints the list, and the corrected score of the best run; returns the list."""
    if score:
        note_score(paths, score)
    competition = load_competition(paths)
    if read_ledger(paths).empty and not known_predictions(paths):
        raise InputError(
            f"{shown(paths.ledger)} lists no run of {paths.competition} yet; make submit makes the first one"
        )
    metric = metric_of(competition, read_task(paths, competition), paths)
    table = table_of(paths, metric, competition.folds.n)
    show(table, metric)
    if said := best_of(comparable(paths, table), metric):
        say("runs", said)
    return table


def main(argv: list[str] | None = None) -> None:
    args = PARSER.parse_args(argv)
    run(Paths(args.competition, args.dry_run), args.score)


if __name__ == "__main__":
    run_stage(main)
