"""Simulates competitions, and counts how often the promised interval holds the score of the averaged prediction.

    python -m tests.benchmarks.promise              # the long form: hours on two cores
    python -m tests.benchmarks.promise --draws 20   # the same strata with fewer draws

Each draw is a competition: K models, out-of-fold predictions of one model for each row, test predictions of all, and
the labels of both. What ensemble would promise is compared with the score of the mean prediction on the test rows.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import product
from multiprocessing import get_context
from typing import NamedTuple

import numpy as np
import pandas as pd

from pipeline.records.runs import RunTables
from pipeline.records.scoring import summarize
from pipeline.system.console import progress
from pipeline.tasks import intervals
from pipeline.tasks.classification import Classification
from pipeline.tasks.multilabel import Multilabel
from pipeline.tasks.ordinal import Ordinal
from pipeline.tasks.postprocessing import apply_steps
from pipeline.tasks.regression import Regression
from pipeline.tasks.task import Task

#: How much the images say of the label; "mixed" has collapsed models among good ones.
SKILLS = ("chance", "collapsed", "mixed", "low", "middle", "high", "perfect")
ROWS = (40, 200, 1000, 5000)
#: Metrics by kind of task; more than one line for the same metric makes it more frequent.
METRICS: dict[type[Task], tuple[str, ...]] = {
    Classification: (
        "accuracy", "log_loss", "accuracy", "log_loss", "roc_auc", "macro_f1", "balanced_accuracy", "map@3",
        "matthews", "balanced_log_loss", "top2_accuracy",
    ),
    Ordinal: ("quadratic_kappa", "mae"),
    Multilabel: ("sample_f2", "log_loss", "mean_average_precision", "micro_f1", "subset_accuracy", "roc_auc"),
    Regression: ("rmse", "mae", "r2", "spearman"),
}  # fmt: skip


class Drawn(NamedTuple):
    """A simulated competition.

    rows: image_id, label, group and fold of N rows; predictions (N, C), out of fold
    members: predictions (M, C) of the test rows by each model; targets (M, C) of these rows
    """

    task: Task
    rows: pd.DataFrame
    predictions: np.ndarray
    members: list[np.ndarray]
    targets: np.ndarray


def labels_of(task: Task, signal: np.ndarray, skill: str, rng: np.random.Generator) -> list[str]:
    """Labels of rows with this signal (N, C)."""
    strength = {"chance": 0.0, "collapsed": 1.0, "mixed": 2.5, "low": 0.8, "middle": 2.0, "high": 5.0, "perfect": 1e3}
    scaled = strength[skill] * signal
    names = np.array(task.target_names)
    if isinstance(task, Regression):
        noise = 0.0 if skill == "perfect" else 1.0
        return [f"{value:.9g}" for value in (scaled.clip(-9, 9) + noise * rng.normal(size=signal.shape))[:, 0]]
    if isinstance(task, Multilabel):
        chosen = rng.random(signal.shape) < 1 / (1 + np.exp(-(scaled - 0.7).clip(-50, 50)))
        return [" ".join(names[row]) for row in chosen]
    shift = rng.uniform(0, 1.5) * np.linspace(0, 1, signal.shape[1])  # frequent and rare classes
    logits = scaled + (0 if skill == "perfect" else shift)
    return list(names[(logits + rng.gumbel(size=logits.shape)).argmax(axis=1)])


def predictions_of(task: Task, evidence: np.ndarray) -> np.ndarray:
    """Predictions (N, C) float32 as a network would give them for this evidence."""
    return task.chances(evidence.astype(float)).astype(np.float32)


def simulate(skill: str, num_rows: int, kind: type[Task], seed: int) -> Drawn:
    """One competition with ``num_rows`` train rows."""
    rng = np.random.default_rng([SKILLS.index(skill), num_rows, sorted(k.kind for k in METRICS).index(kind.kind), seed])
    classes = (
        1 if kind is Regression else int(rng.choice([4, 12]) if kind is Multilabel else rng.choice([2, 3, 5, 10, 100]))
    )
    classes = 5 if kind is Ordinal else min(classes, max(2, num_rows // 10)) if kind is not Regression else 1
    task = kind([f"c{number:02}" for number in range(classes)])
    models, new_rows = int(rng.choice([2, 3, 5, 10])), int(rng.choice([10, 100, 1000, 5000]))
    total = num_rows + new_rows
    size = int(rng.choice([1, 1, 1, 4]))
    groups = np.arange(total) // size

    def normal(columns: int) -> np.ndarray:
        """Numbers (total, columns) that rows of a group partly share."""
        shared = rng.normal(size=(groups[-1] + 1, columns))[groups]
        return shared * np.sqrt(0.6) + rng.normal(size=(total, columns)) * np.sqrt(0.4)

    signal = normal(classes)
    if kind is Ordinal:
        signal = -((np.arange(5) - (2 + 1.5 * signal[:, :1])) ** 2) / 2
    labels = pd.Series(labels_of(task, signal, skill, rng))
    sharp = rng.uniform(0.4, 3.0) if kind is not Regression else rng.uniform(0.5, 1.2)
    common, own = rng.uniform(0, 0.8) * normal(classes), rng.uniform(0.2, 1.5)
    seen = 0.0 if skill == "chance" else 1.0
    evidence = []
    for number in range(models):
        noise = own * rng.normal(size=(total, classes))
        of_model = sharp * (seen * signal + common + noise) + 0.2 * rng.normal(size=classes)
        if skill == "perfect":
            of_model = 8 * signal + 0.02 * noise
        if skill == "collapsed" or (skill == "mixed" and number % 3 == 0):
            constant = rng.uniform(0, 4) * np.eye(classes)[rng.integers(classes)]
            of_model = constant + 0.02 * rng.normal(size=(total, classes))
        evidence.append(of_model)
    fold = groups[:num_rows] % models
    rows = pd.DataFrame({"image_id": np.arange(num_rows).astype(str), "label": labels[:num_rows], "fold": fold})
    rows["group"] = groups[:num_rows].astype(str) if size > 1 else ""
    by_model = [predictions_of(task, each) for each in evidence]
    if kind is Regression:
        by_model = [each * (rng.uniform(0.5, 1.2)) for each in by_model]
    predictions = np.stack(by_model)[fold, np.arange(num_rows)]
    members = [each[num_rows:] for each in by_model]
    return Drawn(task, rows, predictions, members, task.targets(labels[num_rows:]))


@dataclass
class Outcome:
    """What was promised, and what came.

    held: True if the interval holds the score of the mean prediction
    optimism: (expected - actual) / half the width of the interval, positive if the promise was too good
    """

    skill: str
    num_rows: int
    metric: str
    held: bool
    optimism: float


def outcome(skill: str, num_rows: int, seed: int) -> Outcome | None:
    """The outcome of one draw; None if a score is undefined, as roc_auc without one of the classes."""
    rng = np.random.default_rng([SKILLS.index(skill), num_rows, seed])
    kind = list(METRICS)[rng.choice(4, p=[0.55, 0.1, 0.2, 0.15])]
    name = str(rng.choice(METRICS[kind]))
    drawn = simulate(skill, num_rows, kind, seed)
    task, metric = drawn.task, drawn.task.metric(name)
    tables = RunTables(drawn.rows, drawn.rows, task, metric, {})
    promised = summarize(drawn.rows, tables, drawn.predictions, drawn.members)
    mean = apply_steps(task, np.mean(drawn.members, axis=0), promised["steps"])
    actual = task.score(metric, drawn.targets, mean, promised["rule"])
    low, high = promised["interval_95"]
    if not np.isfinite([actual, promised["cv_score"], low, high]).all():
        return None
    sign = 1 if metric.greater_is_better else -1
    half = max((high - low) / 2, 1e-9)
    optimism = sign * (promised["expected_score"] - actual) / half
    held = low - 1e-9 <= actual <= high + 1e-9
    return Outcome(skill, num_rows, name, held, optimism)


def outcomes(draws: int, bootstraps: int, rows: tuple[int, ...] = ROWS) -> Iterator[Outcome]:
    """Yields the outcomes of ``draws`` draws in each stratum of skill and number of rows, with all cores."""
    work = list(product(SKILLS, rows, range(draws)))
    begun = partial(set_bootstraps, bootstraps)
    with ProcessPoolExecutor(initializer=begun, mp_context=get_context("spawn")) as pool:
        found = pool.map(outcome, *zip(*work, strict=True), chunksize=5)
        yield from filter(None, progress(found, len(work), "promise", "draws"))


def set_bootstraps(number: int) -> None:
    """Fewer bootstrap draws than usual, which are enough to count."""
    intervals.draws_for = lambda num_rows: number


def table_of(found: list[Outcome]) -> pd.DataFrame:
    """For each stratum: how many draws, how often the interval held, its binomial error, and the mean optimism."""
    frame = pd.DataFrame([vars(each) for each in found])

    def line(group: pd.DataFrame) -> pd.Series:
        held = group["held"].mean()
        return pd.Series({
            "draws": len(group), "held": held, "error": np.sqrt(held * (1 - held) / len(group)),
            "optimism": group["optimism"].mean(), "median": group["optimism"].median(),
        })  # fmt: skip

    parts = [frame.groupby(["skill", "num_rows"], sort=False).apply(line, include_groups=False).reset_index()]
    whole = line(frame).to_frame().T.assign(skill="all", num_rows="")
    by_metric = (
        frame.groupby("metric").apply(line, include_groups=False).reset_index().rename(columns={"metric": "skill"})
    )
    return pd.concat([*parts, whole, by_metric.assign(num_rows="")], ignore_index=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--bootstraps", type=int, default=200)
    arguments = parser.parse_args()
    print(table_of([*outcomes(arguments.draws, arguments.bootstraps)]).round(3).to_string())
