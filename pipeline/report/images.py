"""Writes the sections of the page that show images: those that cost most, and those of the test that are unsure."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from pipeline.report import findings
from pipeline.report.examples import Examples
from pipeline.report.material import Material
from pipeline.report.page import Card, Cards, Section, Text
from pipeline.tasks.task import Task

#: Number of the most costly images, of those with a heat map, of test images of each kind, and of augmented images.
COSTLY, HEATED, UNSURE, AUGMENTED = 36, 12, 12, 12
#: So many images of each class are shown, if there are at most this number of classes.
OF_EACH_CLASS, FEW_CLASSES = 2, 25


def costly_rows(material: Material) -> np.ndarray:
    """The rows that cost most: of all classes together, and some of each class if there are few."""
    order = np.argsort(-material.costs, kind="stable")
    chosen = [*order[:COSTLY]]
    place = {row: rank for rank, row in enumerate(order)}
    members = material.task.members(material.rows["label"].reset_index(drop=True))
    if len(members) <= FEW_CLASSES:
        for rows in members.values():
            chosen += sorted(rows, key=lambda row: place[row])[:OF_EACH_CLASS]
    return np.array(sorted(set(chosen), key=lambda row: place[row]), int)


def classes_of(task: Task, label: str) -> list[str]:
    """The classes or tags in a label, by which images can be filtered; [] for numbers."""
    return [] if task.kind == "regression" else [*task.members(pd.Series([label]))]


def evidence_for(task: Task, prediction: np.ndarray, decision: np.ndarray) -> int:
    """The target whose evidence a heat map shows: the decision, or the most probable one of several."""
    return 0 if task.kind == "regression" else int((prediction * np.maximum(decision, 1e-9)).argmax())


def costly(material: Material, examples: Examples) -> Section | None:
    """Which images cost most."""
    if not len(material.rows):
        return None
    task, cards = material.task, []
    for rank, row in enumerate(costly_rows(material)):
        about = material.rows.iloc[row]
        prediction = material.predictions[row]
        title, is_wrong = task.verdict(prediction, about["label"], material.rule)
        target = evidence_for(task, prediction, material.decisions[row] if task.kind != "regression" else prediction)
        heat = examples.heat_map(about["image_id"], int(about["fold"]), target) if rank < HEATED else ""
        first, *more = title.split("\n")
        chance = {} if task.kind == "regression" else {"most confident first": float(prediction.max())}
        lines = [*more, f"loss {material.costs[row]:.3f}, fold {about['fold']}", about["image_id"]]
        if task.kind in ("classification", "ordinal"):
            of_truth = float(prediction[material.targets[row].argmax()])
            lines.insert(len(more), f"true {task.noun}: {of_truth:.1%}")
        cards.append(Card(
            [examples.thumbnail(about["image_id"], "train"), heat], first, lines, is_wrong,
            classes_of(task, about["label"]), {"highest loss first": float(material.costs[row]), **chance},
        ))  # fmt: skip
    heated = any(len(card.images) > 1 and card.images[1] for card in cards)
    caption = "The out-of-fold images that cost most in the validation loss"
    is_filled = len(task.members(material.rows["label"].reset_index(drop=True))) <= FEW_CLASSES
    caption += f", and at least {OF_EACH_CLASS} of each {task.noun}." if is_filled else "."
    if task.kind != "regression":
        caption += " Wrong predictions are in colour."
    if heated:
        caption += f" For the first {HEATED}, a heat map shows where the model of the fold found evidence for its "
        caption += "prediction (Grad-CAM); it is grey if there is none."
    return Section("costly images", "Which images cost most?", [Cards(cards, caption)])


def unsure(material: Material, examples: Examples) -> Section | None:
    """Which test images the members disagree on most, and which predictions are most confident."""
    task, rows, members = material.task, material.test_rows, material.members
    if not len(rows):
        return None
    readable = (rows["width"] > 0).to_numpy()
    blocks: list[Any] = []
    if len(members) > 1:
        stack = np.stack([*members.values()])
        differ = np.where(readable, findings.disagreement(task, stack), -1)
        of_what = "runs of the blend" if material.job.call.blend else "folds"
        cards = []
        for row in np.argsort(-differ, kind="stable")[: min(UNSURE, int(readable.sum()))]:
            said = [f"{name}: {task.describe(of_member[row], material.rule)}" for name, of_member in members.items()]
            cards.append(test_card(material, examples, int(row), said[:6]))
        blocks.append(Cards(cards, f"The test images on which the {of_what} disagree most."))
    if task.kind in ("classification", "multilabel", "ordinal"):
        sure = np.where(readable, material.test.max(axis=1), -1)
        order = np.argsort(-sure, kind="stable")[: min(UNSURE // 2, int(readable.sum()))]
        caption = "The most confident predictions of the test"
        caption += (
            ": log loss punishes them most if they are wrong." if "log_loss" in material.tables.metric.name else "."
        )
        said = [f"probability {material.test[row].max():.4f}" for row in order]
        cards = [test_card(material, examples, int(row), [text]) for row, text in zip(order, said, strict=True)]
        blocks.append(Cards(cards, caption))
    return Section("test images", "Which test images are unsure?", blocks) if blocks else None


def test_card(material: Material, examples: Examples, row: int, lines: list[str]) -> Card:
    """A test image with its submitted prediction."""
    image_id = material.test_rows["image_id"].iloc[row]
    title = material.task.describe(material.test[row], material.rule)
    return Card([examples.thumbnail(image_id, "test")], title, [*lines, image_id])


def augmented(material: Material, examples: Examples) -> Cards | Text | None:
    """Some train images as the models see them."""
    train = material.tables.manifest
    train = train[(train["split"] == "train") & (train["width"] > 0)]
    chosen = train.iloc[np.random.default_rng(0).permutation(len(train))[:AUGMENTED]]
    images, labels = examples.augmented(chosen["image_id"].tolist()), chosen.set_index("image_id")["label"]
    cards = [Card([image], labels[image_id] or "(none)") for image_id, image in images.items()]
    return Cards(cards, "Train images as the models saw them, after augmentation.") if cards else None
