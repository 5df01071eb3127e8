"""Makes a page that explains a run or a blend; without one, a page of all runs.

    make report COMPETITION=dogs-vs-cats RECIPE=resnet18
    make report COMPETITION=dogs-vs-cats BLEND=lenet+resnet18
    make report COMPETITION=dogs-vs-cats
    python -m pipeline.tools.report --competition dogs-vs-cats --recipe resnet18

Reads   manifest.csv, folds.csv, problems.csv, ledger.csv; score.json, oof.npz and test.npz of the prediction; of a run,
        log.csv, test.npz and weights.safetensors of its folds; and the images that are shown
Writes  report/index.html in the folder of the run or blend, or in data/<competition>/ for all runs. The page is one
        file, which needs no network
"""

from __future__ import annotations

from pipeline.records.command_line import parser_for
from pipeline.system.console import answer_early

PARSER = parser_for(__doc__, "run", "folds", "seeds", "blend", "device")
PARSER.add_argument("--all-runs", action="store_true", help="the page of all runs, instead of that of one")
if __name__ == "__main__":  # before the imports that take seconds
    answer_early(PARSER)

import os
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd

from pipeline.records.competition import load_competition
from pipeline.records.job import Job, job_of
from pipeline.records.ledger import read_ledger
from pipeline.records.named import known_predictions
from pipeline.records.paths import Paths, PredictionFolder
from pipeline.records.scored import ScoredRows
from pipeline.records.tables import read_csv
from pipeline.records.task import metric_of, read_task
from pipeline.report import charts, images, sections
from pipeline.report.examples import Examples
from pipeline.report.material import read_material
from pipeline.report.page import Cell, Chart, Section, Table, Text, number, render
from pipeline.system.console import run_stage, say
from pipeline.system.errors import InputError
from pipeline.system.files import write_text
from pipeline.system.places import shown
from pipeline.tasks.comparing import compare
from pipeline.tasks.metrics import Metric
from pipeline.tools.runs import best_of, comparable, table_of

#: Most runs in the chart, and most that are compared with the best one.
MOST_DRAWN, MOST_COMPARED = 30, 20


def page_of(files: PredictionFolder) -> Path:
    """The page of a prediction."""
    return files.folder / f"report{files.suffix}" / "index.html"


def run(job: Job) -> Path:
    """Makes the page of a run or blend; returns its path."""
    material, name = read_material(job), job.predictions.name
    examples = Examples(job, material.tables.manifest)
    parts = [
        sections.progress(material),
        sections.mistakes(material),
        images.costly(material, examples),
        images.unsure(material, examples),
        sections.calibration(material),
        sections.folds(material),
        sections.data(material, images.augmented(material, examples)),
        sections.making(material),
    ]
    kind = "blend" if job.call.blend else "run"
    subtitle = f"{job.competition.title or job.paths.competition}: the {kind} {name}, {time.strftime('%Y-%m-%d %H:%M')}"
    title = name if name == job.paths.competition else f"{job.paths.competition}: {name}"
    page = page_of(job.predictions)
    write_text(page, render(title, subtitle, [part for part in parts if part], sections.headline(material)))
    say("report", f"-> {shown(page)}")
    return page


def of_all_runs(paths: Paths) -> Path:
    """Makes the page of all runs of a competition; returns its path."""
    competition = load_competition(paths)
    there = known_predictions(paths)
    if read_ledger(paths).empty and not there:
        raise InputError(f"there is no run of {paths.competition} yet; make submit makes the first one")
    metric = metric_of(competition, read_task(paths, competition), paths)
    table, page = table_of(paths, metric, competition.folds.n), paths.output / "report" / "index.html"
    scored = comparable(paths, table)
    better = "higher" if metric.greater_is_better else "lower"
    drawn = table[table["score"].notna() & (table["note"].isin(["", "no predictions"]))].head(MOST_DRAWN)
    blocks: list[Any] = [Text(f"{said[0].upper()}{said[1:]}.")] if (said := best_of(scored, metric)) else []
    if len(drawn):
        blocks.append(Chart(charts.intervals(with_bounds(drawn), metric.name, better, len(read_csv(paths.folds)))))
    blocks.append(listing(table, {name: page_of(files) for name, files in there.items()}, page.parent))
    parts = [Section("runs", "Which run is best?", blocks)]
    if len(scored) > 1:
        parts.append(Section("gains", "Which gains are real?", [compared(scored, metric)]))
    subtitle = f"{competition.title or paths.competition}: all runs, {time.strftime('%Y-%m-%d %H:%M')}"
    write_text(page, render(f"{paths.competition}: all runs", subtitle, parts))
    say("report", f"-> {shown(page)}")
    return page


def with_bounds(table: pd.DataFrame) -> pd.DataFrame:
    """The table of make runs with both ends of each interval."""
    ends = table["interval"].str.split(" to ", expand=True).reindex(columns=[0, 1])
    numbers = ends.apply(pd.to_numeric, errors="coerce")
    return table.assign(low=numbers[0].fillna(table["score"]), high=numbers[1].fillna(table["score"]))


def listing(table: pd.DataFrame, pages: dict[str, Path], base: Path) -> Table:
    """All runs and blends; the name of one that has a page links to it."""
    rows = []
    for row in table.to_dict("records"):
        page = pages.get(row["name"])
        link = quote(Path(os.path.relpath(page, base)).as_posix()) if page and page.exists() else ""
        cells = [Cell(row["name"], row["name"].lower(), link), Cell(row["what"], row["what"])]
        for column in ("score", "expected", "leaderboard"):
            known = row[column] if pd.notna(row[column]) else None
            cells.append(Cell(number(known), "" if known is None else known))
        cells += [Cell(row["interval"], row["interval"].split(" to ")[0]), Cell(row["time"], row["seconds"])]
        cells += [Cell(row[column], row[column]) for column in ("folds", "when", "note")]
        rows.append(cells)
    names = ["name", "kind", "out of fold", "expected", "leaderboard", "95 % interval", "time", "folds", "when", "note"]
    told = [place for place in range(len(names)) if any(row[place].text not in ("", "–") for row in rows)]
    caption = "A name links to the page of the run; make report with its RECIPE or BLEND makes that page."
    kept = [[row[place] for place in told] for row in rows]
    return Table([names[place] for place in told], kept, names[2:5], caption)


def compared(scored: list[ScoredRows], metric: Metric) -> Table:
    """The best run compared with the others, on the same rows."""
    scores = [metric(one.truth, one.values) for one in scored]
    order = np.argsort(
        [-score if metric.greater_is_better else score for score in np.nan_to_num(scores)], kind="stable"
    )
    best, *others = [scored[place] for place in order[: MOST_COMPARED + 1]]
    rows = []
    for one in others:
        ids = best.rows["image_id"][best.rows["image_id"].isin(one.rows["image_id"])]
        first, second = best.only(ids), one.only(ids)
        difference = compare(metric, first.truth, first.values, second.values, first.units)
        verdict = "a real gain" if difference.is_real else "not to be told from noise"
        interval = f"{difference.low:+.4f} to {difference.high:+.4f}"
        rows.append(
            [
                Cell(one.name, one.name.lower()),
                Cell(f"{difference.gain:+.4f}", difference.gain),
                Cell(interval, difference.low),
                Cell(verdict, verdict),
            ]
        )
    caption = (
        f"How much better {best.name} is than each other run, on the same {len(best.rows):,} images, by the paired "
        "bootstrap. The noise between seeds is not included; make compare includes it where it is known."
    )
    return Table(["other run", "better by", "95 % interval", "verdict"], rows, ["better by"], caption)


def main(argv: list[str] | None = None) -> None:
    args = PARSER.parse_args(argv)
    if args.all_runs:
        of_all_runs(Paths(args.competition, args.dry_run))
    else:
        run(job_of(args))


if __name__ == "__main__":
    run_stage(main)
