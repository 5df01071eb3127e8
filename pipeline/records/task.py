"""Keeps the task that the manifest stage has found, for the stages after it, and finds the competition's metric.

task.json holds the kind of task, the names of the targets in their order, and the separator of labels.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd

from pipeline.records.competition import OWN_METRIC, Competition
from pipeline.records.paths import Paths
from pipeline.records.tables import require_made
from pipeline.system.errors import InputError, StaleError
from pipeline.system.files import fingerprint, read_json, write_json
from pipeline.system.places import shown
from pipeline.tasks.forms import DECIDED
from pipeline.tasks.kinds import TASKS
from pipeline.tasks.metrics import Metric
from pipeline.tasks.task import Task


def save_task(paths: Paths, task: Task) -> None:
    """Writes task.json."""
    write_json(paths.task, {"task": task.kind, "target_names": task.target_names, "separator": task.separator})


def read_task(paths: Paths, competition: Competition) -> Task:
    """The task of the competition.

    Raises FoldwiseError if the manifest stage has not run, or not since competition.toml names another task or other
    classes.
    """
    require_made(paths.task, "manifest")
    saved = read_json(paths.task, "task", "target_names", "separator")
    for key, wanted, found in (
        ("task", competition.task, saved["task"]),
        ("classes", competition.classes, saved["target_names"]),
    ):
        if wanted not in (None, found):
            raise StaleError(
                f"{shown(paths.task)} was made before {key} in competition.toml changed; run the manifest stage again "
                "(make manifest)"
            )
    return TASKS[saved["task"]](saved["target_names"], saved["separator"])


def metric_of(competition: Competition, task: Task, paths: Paths) -> Metric:
    """The metric of the competition; raises FoldwiseError if it does not apply to the task, or cannot be loaded."""
    name = competition.metric or task.default_metric
    if not OWN_METRIC.fullmatch(name):
        return task.metric(name)
    form = competition.submission
    value = (form.value if form else None) or task.forms[0]
    decided = value in DECIDED and task.kind in ("multilabel", "ordinal")
    return Metric(
        name,
        own_function(paths, name),
        competition.greater_is_better is not False,
        (-np.inf, np.inf),
        task.compares[0],
        decided,
    )


def own_file(paths: Paths, name: str) -> Path:
    """The file of the user's own metric: beside competition.toml, and not one that came with the images."""
    return paths.toml.parent / name.partition(":")[0]


def metric_sha256(competition: Competition, paths: Paths) -> str | None:
    """The sha256 of the file with the user's own metric; None for other metrics."""
    name = competition.metric or ""
    return fingerprint(own_file(paths, name)) if OWN_METRIC.fullmatch(name) else None


def own_function(paths: Paths, name: str) -> Callable[[np.ndarray, np.ndarray], float]:
    """The user's function, with errors that name its file and line.

    Raises FoldwiseError if the file or the function is missing, or if importing the file fails.
    """
    path, function_name = own_file(paths, name), name.partition(":")[2]
    if not path.is_file():
        raise InputError(f"metric = '{name}': there is no {shown(path)}; it must be in the folder of competition.toml")
    if path.resolve().parent != paths.toml.parent.resolve():
        raise InputError(f"metric = '{name}': {shown(path)} is a link to another folder; put the file itself there")
    module = ModuleType(f"own_metric_{path.stem}")
    try:
        # Compiled from the text, so that no older bytecode is used and none is written beside the TOML.
        exec(compile(path.read_bytes(), path, "exec"), module.__dict__)
    except (Exception, SystemExit) as error:  # whatever the user's file raises, the message names its line
        raise InputError(f"metric = '{name}': {shown(path)} cannot be imported: {place_of(error, path)}") from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise InputError(f"metric = '{name}': {shown(path)} has no function '{function_name}'")

    def score(truth: np.ndarray, values: np.ndarray) -> float:
        try:
            return float(function(truth.copy(), values.copy()))  # copies, as it may write into its arguments
        except (Exception, SystemExit) as error:
            raise InputError(f"metric = '{name}' failed: {place_of(error, path)}; correct {shown(path)}") from error

    return score


def place_of(error: BaseException, path: Path) -> str:
    """The error and the last line of the file where it occurred, as text."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    lines = [error.lineno] if isinstance(error, SyntaxError) else lines
    where = f" in line {lines[-1]}" if lines else ""
    return f"{type(error).__name__}{where}: {' '.join(str(error).split())}"


def try_metric(task: Task, labels: pd.Series, metric: Metric) -> None:
    """Scores the prior, so that a fault in a metric of the user's own is found before anything is trained.

    Raises FoldwiseError if the labels are not for the metric.
    """
    targets = task.targets(labels)
    if metric.name == "rmsle" and (targets < 0).any():
        raise InputError(f"metric = 'rmsle' needs labels that are not negative, but one is {targets.min():g}")
    task.score(metric, targets, np.tile(task.prior(targets), (len(targets), 1)))
