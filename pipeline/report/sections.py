"""Writes the sections of the page of a prediction, in the order in which a person asks.

Each function answers one question from the material, and returns the blocks of page.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from pipeline.records.score_words import words_of_steps
from pipeline.records.tables import read_csv
from pipeline.report import charts, findings
from pipeline.report.material import Material
from pipeline.report.page import Chart, Code, Facts, Section, Table, Text, number, table_of
from pipeline.system.console import duration
from pipeline.system.errors import count_of

#: Most rows of a table of classes, most tags in a chart, and most numbers with charts.
MOST_ROWS, MOST_TAGS, MOST_PANELS = 2000, 30, 6


def headline(material: Material) -> Facts:
    """What was run and its score, with what is known of the test."""
    score, metric, tested = material.score, material.tables.metric, len(material.test_rows)
    better = "higher" if metric.greater_is_better else "lower"
    whose = f" of {score['twin']}" if score.get("twin") else ""
    facts = [(f"out-of-fold {metric.name}{whose} ({better} is better)", number(score["cv_score"]))]
    if score["interval_95"]:
        low, high = score["interval_95"]
        rows = f"{score.get('interval_rows') or len(material.test_rows):,} {'test' if tested else 'unseen'} images"
        facts += [
            (f"to expect on {rows}", number(score["expected_score"])),
            ("95 % interval", f"{low:.4f} to {high:.4f}"),
        ]
    if tested and score.get("averaging_gain"):
        facts.append(("of that, by averaging the folds", f"{score['averaging_gain']:+.4f}"))
    known = material.submission.get("test_score")
    facts += [("on the known test labels", number(known))] if known is not None else []
    facts += [("on the leaderboard", number(material.leaderboard))] if material.leaderboard is not None else []
    if score["train_score"] is not None:
        facts.append(("on the train images", number(score["train_score"])))
    if "accuracy" in score and score["metric"] != "accuracy":
        facts.append(("out-of-fold accuracy", number(score["accuracy"])))
    members = material.job.members.described if not material.job.call.blend else f"{len(score['members'])} runs"
    partial = ", PARTIAL" if score["partial"] else ""
    facts += [("made of", members + partial), ("training time", duration(score["training_seconds"]))]
    return Facts(facts)


def progress(material: Material) -> Section | None:
    """Is it still improving: the curves of all folds."""
    logs, metric = material.logs, material.tables.metric
    if not logs or max(map(len, logs.values())) < 2:
        return None
    blocks: list[Any] = [Chart(charts.curves(logs, "val_loss", "train_loss", "loss", len(material.rows)))]
    if metric.name != "log_loss":
        blocks.append(Chart(charts.curves(logs, "val_score", "train_score", metric.name, len(material.rows))))
    said = findings.still_improving(logs)
    return Section("progress", "Is it still improving?", [*([Text(said)] if said else []), *blocks])


def mistakes(material: Material) -> Section | None:
    """Where it is wrong."""
    if not len(material.rows):
        return None
    show = {"confusion": of_classes, "tags": of_tags, "scatter": of_numbers}[material.task.picture]
    return Section("mistakes", "Where is it wrong?", show(material))


def costs_of(material: Material, parts: list[Any], rows_of: list[np.ndarray]) -> tuple[list[float], str]:
    """What each part costs, and in what: in the metric or, if that takes too long, in the validation loss."""
    task, metric = material.task, material.tables.metric
    costs = findings.cost_of_parts(task, metric, material.targets, material.values, parts)
    if costs is not None and np.isfinite(costs).all():
        return costs, f"cost: how much better {metric.name} would be if all of these were right"
    number_of_rows = len(material.rows)
    losses = [float(material.costs[rows].sum() / number_of_rows) for rows in rows_of]
    return losses, "cost: the part of the mean validation loss that comes from these images"


TIMES = "Folds that train side by side share the machine, so their times add up to more than the training took."
FREQUENT = "The most frequent mistakes, of all images of the true class."
FORMATS = {"images": ",d", "precision": ".3f", "recall": ".3f", "f1": ".3f", "cost": ".4f"}


def of_classes(material: Material) -> list[Any]:
    """Confusion matrix, most frequent mistakes and a row for each class."""
    task, names = material.task, material.task.target_names
    counts = findings.confusion_of(task, material.rows["label"], material.decisions)
    truth = material.targets.argmax(axis=1)
    rows = [truth == place for place in range(len(names))]
    costs, meaning = costs_of(material, rows, rows)
    classes = findings.of_classes(counts, names, costs).head(MOST_ROWS)
    pairs = findings.worst_pairs(counts, names)
    named = {"name": task.noun, "f1": "F1", "often": "most often taken for"}
    right = counts.trace() / max(1, counts.sum())
    return [
        Text(f"{counts.trace():,} of {count_of(int(counts.sum()), 'out-of-fold image')} are right ({right:.1%})."),
        Chart(charts.confusion(counts, names), "All folds together; the colour is the share of the true class."),
        table_of(classes, FORMATS, f"Each {task.noun}; {meaning}.", named),
        *([table_of(pairs, {"images": ",d", "of": ",d"}, FREQUENT)] if len(names) > 2 and len(pairs) else []),
    ]


def of_tags(material: Material) -> list[Any]:
    """A row for each tag, with its threshold."""
    task = material.task
    number_of_tags = len(task.target_names)
    parts = [(slice(None), place) for place in range(number_of_tags)]
    chosen = (material.decisions > 0).astype(float)
    wrong = [chosen[:, place] != material.targets[:, place] for place in range(number_of_tags)]
    costs, meaning = costs_of(material, parts, wrong)
    tags = findings.of_tags(material.targets, chosen, task.target_names, costs)
    thresholds = dict(zip(task.target_names, material.rule.get("thresholds", []), strict=False))
    tags.insert(2, "threshold", tags["name"].map(thresholds))
    whole = (chosen == material.targets).all(axis=1)
    shown = tags.head(MOST_TAGS)
    counts = findings.counts_of_tags(material.targets, chosen)[shown.index]
    first = f", of the {MOST_TAGS} that cost most" if len(tags) > MOST_TAGS else ""
    return [
        Text(
            f"All labels are right for {whole.sum():,} of {count_of(len(whole), 'out-of-fold image')} "
            f"({whole.mean():.1%})."
        ),
        Chart(charts.tags(counts, shown["name"].tolist(), len(whole)), f"Images of each label{first}."),
        table_of(
            tags,
            {"threshold": ".3f", **FORMATS},
            f"Each {task.noun}, of all folds together; {meaning}.",
            {"name": task.noun, "f1": "F1"},
        ),
    ]


def of_numbers(material: Material) -> list[Any]:
    """True against predicted numbers, and errors by ranges."""
    task, names = material.task, material.task.target_names
    blocks: list[Any] = []
    for place, name in list(enumerate(names))[:MOST_PANELS]:
        truth, values = material.targets[:, place].astype(float), material.predictions[:, place]
        blocks += [Chart(charts.scatter(truth, values, name)), Chart(charts.residuals(truth, values, name))]
    if len(names) > MOST_PANELS:
        blocks.insert(0, Text(f"The first {MOST_PANELS} of {len(names)} numbers."))
    ranges = findings.of_ranges(task, material.rows["label"], material.targets, material.predictions)
    formats = {"images": ",d", "bias": "+.4f", "mae": ".4f", "rmse": ".4f"}
    meaning = "Errors by the true number; bias: the mean of predicted minus true, mae: the mean absolute error."
    return [*blocks, table_of(ranges, formats, meaning, {"name": names[0]})]


def calibration(material: Material) -> Section | None:
    """Are the probabilities right."""
    task = material.task
    if not len(material.rows) or task.kind == "regression":
        return None
    given, right = findings.confidence_of(task, material.targets, material.predictions)
    table = findings.reliability(given, right)
    error = findings.calibration_error(table)
    of = "each label of each image" if task.kind == "multilabel" else f"the most probable {task.noun}"
    steps = material.score.get("steps_of_one", [])
    after = f" They are shown after what was learnt: {words_of_steps(steps)}." if steps else ""
    blocks: list[Any] = [
        Text(f"Probabilities and shares differ by {error:.3f} on average (expected calibration error).{after}"),
        Chart(charts.reliability(table, of), "Above the dashed line, predictions are right more often than they say."),
    ]
    if len(material.test):
        of_test = material.test.ravel() if task.kind == "multilabel" else material.test.max(axis=1)
        bands = findings.confident(given, right, of_test)
        rows = bands.assign(least=[f"at least {least:g}" for least in bands["least"]])
        formats = {"images": ",d", "wrong": ",d", "share": ".2%", "test": ",d", "expected": ".1f"}
        named = {
            "least": "probability",
            "images": "out of fold",
            "share": "share wrong",
            "expected": "wrong in test, expected",
        }
        meaning = (
            "Confident predictions, and how many of them are wrong. In the test, (wrong + 1) / (out of fold + 2) of "
        )
        meaning += "them are expected to be wrong, since no error in few images does not mean that there is none."
        if "log_loss" in material.tables.metric.name:
            meaning += " The log loss of a wrong one is at least 2.3; at 0.999, 6.9."
        blocks.append(table_of(rows, formats, meaning, named))
    return Section("calibration", "Is it calibrated?", blocks)


def folds(material: Material) -> Section | None:
    """Are the folds alike; for a blend, what its runs add."""
    score, metric = material.score, material.tables.metric
    if material.job.call.blend:
        return Section("runs", "What do its runs add?", [blended(score), ways(score)])
    if not len(material.rows) or len(score["fold_scores"]) < 2:
        return None
    losses = findings.fold_losses(material.task, material.rows["fold"].to_numpy(), material.costs)
    sizes = material.rows["fold"].value_counts().sort_index()
    logs = {fold: log["seconds"].sum() for fold, log in material.logs.items()}
    table = pd.DataFrame({
        "fold": sizes.index, "images": sizes.to_numpy(), metric.name: score["fold_scores"],
        "loss": losses.values(), "time": [duration(logs[fold]) if fold in logs else "–" for fold in sizes.index],
    })  # fmt: skip
    table = table.drop(columns="loss") if metric.name == "log_loss" else table
    spread = score["fold_sd"]
    text = f"The scores of the folds have a standard deviation of {spread:.4f}." if spread is not None else ""
    return Section("folds", "Are the folds alike?", [
        *([Text(text)] if text else []),
        Chart(charts.by_fold(score, [*sizes.index], metric.name)),
        table_of(table, {name: ",d" if name == "images" else ".4f" for name in table.columns[1:-1]}, TIMES),
    ])  # fmt: skip


def blended(score: dict[str, Any]) -> Table:
    """The runs of a blend."""
    shares = score["weights"] or [None] * len(score["members"])
    table = pd.DataFrame({
        "run": score["members"], "alone": score["scores_alone"], "share": pd.Series(shares, dtype=float),
        "adds": [one["adds"] for one in score["without"]], "±": [one["error"] for one in score["without"]],
    })  # fmt: skip
    meaning = (
        f"Blended by {score['way']}. adds: how much worse the score would be without the run, ± its standard error."
    )
    return table_of(table, {"alone": ".4f", "share": ".2f", "adds": "+.4f", "±": ".4f"}, meaning)


def ways(score: dict[str, Any]) -> Table:
    """The ways to blend that were tried."""
    table = pd.DataFrame(
        [
            (name, one["optimistic"], one["honest"], "used" if name == score["way"] else "")
            for name, one in score["ways"].items()
        ],
        columns=["way", "optimistic", "honest", "note"],
    )
    meaning = "Ways to blend: scored on the rows that they were learnt from (optimistic), and on others (honest)."
    return table_of(table, {"optimistic": ".4f", "honest": ".4f"}, meaning)


def data(material: Material, augmented: Any) -> Section:
    """What it was learnt from; augmented: train images as the models see them, or None."""
    task, manifest = material.task, material.tables.manifest
    train = manifest[manifest["split"] == "train"]
    members = {name: len(rows) for name, rows in task.members(train["label"]).items()}
    table = pd.DataFrame({"name": members.keys(), "images": members.values()})
    table = table.assign(share=table["images"] / max(1, len(train))).sort_values(
        "images", ascending=False, kind="stable"
    )
    readable = manifest[manifest["width"] > 0]
    facts = [("train images", f"{len(train):,}"), ("test images", f"{len(material.test_rows):,}")]
    facts += [("groups", f"{train['group'].nunique():,}")] if (train["group"] != "").any() else []
    problems = read_csv(material.job.paths.problems) if material.job.paths.problems.exists() else pd.DataFrame()
    found = problems["problem"].value_counts() if len(problems) else pd.Series(dtype=int)
    facts.append(("problems found", f"{len(problems):,}"))
    blocks: list[Any] = [
        table_of(table, {"images": ",d", "share": ".1%"}, f"Train images of each {task.noun}.", {"name": task.noun})
    ]
    widths, heights = readable["width"].to_numpy(float), readable["height"].to_numpy(float)
    if len({*zip(widths, heights, strict=True)}) == 1:
        facts.append(("size of all images", f"{widths[0]:.0f} x {heights[0]:.0f} pixels"))
    elif len(readable):
        blocks.append(Chart(charts.sizes(widths, heights)))
    if len(found):
        first = problems.drop_duplicates("problem").set_index("problem")
        rows = pd.DataFrame({
            "problem": found.index, "files": found.to_numpy(), "first": first["path"].reindex(found.index).to_numpy(),
            "detail": first["detail"].reindex(found.index).to_numpy(),
        })  # fmt: skip
        blocks.append(table_of(rows, {"files": ",d"}, "Problems in the files; problems.csv lists all of them."))
    return Section("data", "What was it learnt from?", [Facts(facts), *blocks, *([augmented] if augmented else [])])


def making(material: Material) -> Section:
    """How it was made, and how to make it again."""
    score, call = material.score, material.job.call
    packages = ", ".join(f"{name} {version}" for name, version in score["packages"].items())
    facts = [("device", score["device"]), ("CPUs", str(score["cpus"])), ("system", score["system"])]
    facts += [("commit", (score["commit"] or "–")[:12] + ("+changes" if "+" in (score["commit"] or "") else ""))]
    commands = [call.make_line("submit")]
    if material.submission:
        commands.append(f"make reproduce COMPETITION={call.competition} SUBMISSION={material.job.predictions.name}")
    return Section("making", "How was it made?", [
        Facts(facts),
        Code("\n".join(commands)),
        *([] if call.blend else [Code(material.recipe_text, "the whole recipe")]),
        Text(f"Python {score['python']}, {packages}."),
    ])  # fmt: skip
