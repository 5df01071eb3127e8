"""Learns from out-of-fold predictions how to change predictions before they are submitted, where that helps.

Three steps are tried, for classes and tags, if the metric can gain by them:

- temperature: the evidence divided by a number, which makes overconfident predictions milder (Guo et al., 2017);
- prior shift: each class divided by a power of its frequency, for metrics that weigh rare classes as much as frequent
  ones (logit adjustment: Menon et al., 2021);
- clip: probabilities no nearer to 0 and 1 than a limit, since the log loss punishes confident errors.

A step is kept if it improves the score of rows that it was not learnt from by more than two standard errors.

Legend: N rows, C targets, K models, M test rows; targets and predictions (N, C); parts and units (N,) int as in
nesting.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from pipeline.tasks.averaging import Likely
from pipeline.tasks.comparing import improvement, is_clearly_better
from pipeline.tasks.metrics import Metric
from pipeline.tasks.task import Task

#: A step as score.json holds it: its name, its value, the classes' frequencies for a prior shift, and the gain.
Step = dict[str, Any]

#: The order in which the steps are learnt and applied.
ORDER = ("prior shift", "temperature", "clip")
#: The steps that can improve a metric.
OF_CLASSES = {
    "log_loss": ORDER,
    "balanced_log_loss": ORDER,
    **dict.fromkeys(("accuracy", "balanced_accuracy", "macro_f1", "matthews"), ("prior shift",)),
}
OF_TAGS = {"log_loss": ("temperature", "clip")}
#: The values that are tried; the first one changes nothing. A clip is relative to 1 / C.
GRIDS = {
    "temperature": np.concatenate([[1.0], np.geomspace(0.2, 8, 61)]),
    "prior shift": np.concatenate([[0.0], np.arange(-10, 16) / 10]),
    "clip": np.concatenate([[0.0], np.geomspace(1e-4, 0.3, 22)]),
}
#: Every how many values are tried at first.
COARSE = 4
#: Number of predicted values that something is learnt from at most, and of rows at least, if there are as many: more
#: would gain little precision.
MAX_VALUES, FEWEST_ROWS = 400_000, 2_000


def sampled_rows(num_rows: int, num_targets: int) -> np.ndarray:
    """The rows (int) to learn from: all, or a sample if there are so many that learning would take long."""
    most = max(FEWEST_ROWS, MAX_VALUES // num_targets)
    return np.arange(num_rows) if num_rows <= most else np.random.default_rng(0).choice(num_rows, most, replace=False)


def steps_for(task: Task, metric: Metric) -> tuple[str, ...]:
    """The names of the steps that can improve this metric."""
    if task.kind == "multilabel":
        return OF_TAGS.get(metric.name, ())
    tried = OF_CLASSES.get(metric.name, ()) if metric.of == "classes" and task.kind != "regression" else ()
    return () if metric.decided and task.learners(metric) else tried  # cut points decide already


def apply_step(task: Task, predictions: np.ndarray, step: Step) -> np.ndarray:
    """The predictions (N, C) after one step."""
    if step["step"] == "temperature":
        return task.chances(task.evidence(predictions) / step["value"])
    if step["step"] == "prior shift":
        changed = predictions * np.array(step["prior"]) ** -step["value"]
    else:
        limit = step["value"] / predictions.shape[1]
        changed = predictions.clip(limit, 1 - limit)
    return changed / changed.sum(axis=1, keepdims=True) if task.kind != "multilabel" else changed


def apply_steps(task: Task, predictions: np.ndarray, steps: list[Step]) -> np.ndarray:
    """The predictions (N, C) after all steps."""
    for step in steps:
        predictions = apply_step(task, predictions, step)
    return predictions


def candidates(name: str, targets: np.ndarray) -> Iterator[Step]:
    """Yields the step with each value that is tried, given the targets to learn from."""
    frequency = (targets.sum(axis=0) + 0.5) / (len(targets) + 0.5 * targets.shape[1])
    for value in GRIDS[name]:
        yield {"step": name, "value": float(value)} | (
            {"prior": [float(share) for share in frequency]} if name == "prior shift" else {}
        )


def learn_step(task: Task, metric: Metric, name: str, targets: np.ndarray, predictions: np.ndarray) -> Step:
    """The step with the value that scores best on the rows."""
    rows = sampled_rows(*targets.shape)
    targets, predictions = targets[rows], predictions[rows]
    return best_step(task, metric, list(candidates(name, targets)), [task.truth(targets)], predictions)[0]


def best_step(
    task: Task, metric: Metric, tried: list[Step], truths: list[np.ndarray], predictions: np.ndarray
) -> tuple[Step, float]:
    """The best of several steps, by the mean score over several truths, and the change of the score.

    The first step changes nothing; the others are in ascending order. Every fourth one is tried, then those around the
    best one. Among equally good ones, it is the one that changes least.
    """
    rule = task.default_rule(metric)
    better: dict[int, float] = {0: 0.0}

    def score(place: int) -> float:
        values = task.values(metric, apply_step(task, predictions, tried[place]), rule)
        return float(np.mean([metric(task.compared(metric, truth), values) for truth in truths]))

    before = score(0)
    for place in range(1, len(tried), COARSE):
        better[place] = improvement(metric, score(place), before)
    best = max(better, key=lambda place: (np.nan_to_num(better[place], nan=-np.inf), -place))
    for place in range(max(1, best - COARSE + 1), min(len(tried), best + COARSE)):
        if place not in better:
            better[place] = improvement(metric, score(place), before)
    most = max(gain for gain in better.values() if not np.isnan(gain))
    equal = [place for place, gain in better.items() if gain >= most - 1e-12]
    chosen = min(equal, key=lambda place: abs(tried[place]["value"] - tried[0]["value"]))
    return tried[chosen], better[chosen] if metric.greater_is_better else -better[chosen]


def learn_steps(
    task: Task, metric: Metric, targets: np.ndarray, predictions: np.ndarray, parts: np.ndarray, units: np.ndarray
) -> list[Step]:
    """The steps that honestly help, each with its gain on rows that it was not learnt from."""
    steps: list[Step] = []
    rule, judged = task.default_rule(metric), predictions
    truth = task.compared(metric, task.truth(targets))
    for name in steps_for(task, metric) if len(np.unique(parts)) > 1 else ():
        elsewhere = np.empty_like(predictions)
        for part in np.unique(parts):
            here = parts == part
            learnt = learn_step(task, metric, name, targets[~here], judged[~here])
            elsewhere[here] = apply_step(task, judged[here], learnt)
        before, after = task.values(metric, judged, rule), task.values(metric, elsewhere, rule)
        if is_clearly_better(metric, truth, after, before, units):
            learnt = learn_step(task, metric, name, targets, predictions)
            steps.append({**learnt, "gain": metric(truth, after) - metric(truth, before)})
            predictions, judged = apply_step(task, predictions, learnt), elsewhere
    return steps


def steps_of_mean(task: Task, metric: Metric, steps: list[Step], likely: Likely, mean: np.ndarray) -> list[Step]:
    """The steps for the mean (M, C) of several models, from those for one of them.

    The mean is milder than each of the models, so it needs another temperature, also if the models need none: the one
    that scores best for the likely labels of the test rows. ``expected_gain`` is what it gains there.
    """
    names = [step["step"] for step in steps]
    if "temperature" in steps_for(task, metric) and "temperature" not in names:
        steps = [*steps, {"step": "temperature", "value": 1.0, "gain": 0.0}]
    now, changed = mean[likely.rows].astype(float), []
    for step in sorted(steps, key=lambda step: ORDER.index(step["step"])):
        if step["step"] == "temperature":
            tried = [{**step, "value": float(value)} for value in GRIDS["temperature"]]
            best, gain = best_step(task, metric, tried, likely.truths, now)
            step = {**best, "of_one_model": step["value"], "expected_gain": gain}
        changed.append(step)
        now = apply_step(task, now, step)
    return [step for step in changed if step["value"] != GRIDS[step["step"]][0]]
