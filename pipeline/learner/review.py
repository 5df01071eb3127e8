"""Lists the images of a run that are worth a look: labels that look wrong, and near-duplicates.

Both come from the features of a frozen backbone, so a run on features gives them at no further cost.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.learner.arrangement import Compute
from pipeline.learner.feature_head import HeadsOnFeatures
from pipeline.learner.trained import load_folds
from pipeline.learner.twins import Twins, find_twins
from pipeline.pixels.augment import eval_transforms
from pipeline.pixels.cache import open_pixels, readable_rows
from pipeline.pixels.dataset import ImageDataset
from pipeline.pixels.pictures import save_grid
from pipeline.records.job import Job
from pipeline.records.predictions import Predictions
from pipeline.records.runs import RunTables
from pipeline.records.tables import write_csv
from pipeline.system.console import say
from pipeline.system.errors import count_of
from pipeline.system.files import read_record
from pipeline.system.places import shown
from pipeline.tasks.task import Task

#: Number of images, or pairs of images, in the pictures.
SHOWN = 20
#: Doubt from which a label looks wrong: the prediction differs from the label by at least this share of its range.
LEAST_DOUBT = 0.8


def review(job: Job, tables: RunTables, compute: Compute) -> None:
    """Writes both lists into the folder of a run on features, from all folds that are predicted."""
    records = {fold: job.fold_folder(fold) / "predicted.json" for fold in range(job.num_folds)}
    oof = [
        Predictions.load(
            record.with_name("oof.npz"), read_record(record)["sha256"]["oof"], f"type: {job.call.make_line('predict')}"
        )
        for record in records.values()
        if record.exists()
    ]
    trained, preprocessing = load_folds(job, job.folds[:1], tables.identity, tables.task)
    fold_of = tables.folds.set_index("image_id")["fold"].astype(str)
    readable = readable_rows(tables.manifest)
    is_train = readable["split"] == "train"
    readable = readable.assign(fold=readable["image_id"].map(fold_of).where(is_train, "").fillna(""))
    pixels = open_pixels(job.paths, readable, job.recipe.cache_side, "predict")
    images = ImageDataset(pixels, readable, eval_transforms(job.recipe, preprocessing))
    predictions = pd.DataFrame(
        np.concatenate([each.predictions for each in oof]), np.concatenate([each.image_ids for each in oof])
    )
    rows = readable[is_train & readable["image_id"].isin(predictions.index)]
    list_mislabelled(job.run_folder, rows, predictions.loc[rows["image_id"]].to_numpy(), tables, images)
    features = HeadsOnFeatures(job, trained, preprocessing, pixels, compute).features(readable).mean(axis=0)
    list_near_duplicates(job.run_folder, readable, features, images)


def doubts(task: Task, targets: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """How much the out-of-fold predictions contradict the labels, (N,) in 0..1.

    For one class it is the share that the other classes get (Northcutt et al., 2021); for several labels that of the
    most doubtful label; for numbers the largest difference, as a fraction of the range of the labels.
    """
    if task.kind == "regression":
        difference = np.abs(predictions - targets) / np.maximum(np.ptp(targets, axis=0), 1e-12)
    else:
        difference = np.abs(predictions - targets)
    return difference.max(axis=1).clip(0, 1)


def list_mislabelled(
    folder: Path, rows: pd.DataFrame, predictions: np.ndarray, tables: RunTables, images: ImageDataset
) -> None:
    """Writes mislabelled.csv and .png into the folder: the rows whose label looks wrong, the most doubtful first.

    rows: image_id, path, label and position of N train rows; predictions (N, C), out of fold
    images: all readable images, by position
    """
    task, rule = tables.task, tables.task.default_rule(tables.metric)
    doubt = doubts(task, task.targets(rows["label"]), predictions)
    order = np.argsort(-doubt, kind="stable")
    order = order[doubt[order] >= LEAST_DOUBT]
    table = rows.iloc[order][["image_id", "path", "label"]]
    table = table.assign(predicted=task.best(predictions[order], rule), doubt=doubt[order])
    write_csv(folder / "mislabelled.csv", table)
    picture = folder / "mislabelled.png"
    if not len(table):
        picture.unlink(missing_ok=True)
        say("predict", "no label looks wrong")
        return
    first = order[:SHOWN]
    given = rows["image_id"] + "\nlabel: " + rows["label"] + "\npredicted:\n"
    titles = [given.iloc[row] + task.describe(predictions[row], rule) for row in first]
    shots = [images[0, int(position)] for position in rows["position"].iloc[first]]
    heading = f"labels that look wrong: {len(first)} of {len(order):,}"
    save_grid(picture, shots, titles, 5, heading)
    say("predict", f"{count_of(len(table), 'label')} may be wrong: look at them in {shown(picture)} and .csv")


def list_near_duplicates(folder: Path, readable: pd.DataFrame, features: np.ndarray, images: ImageDataset) -> None:
    """Writes near_duplicates.csv and .png into the folder: pairs of images that are nearly the same.

    readable: image_id, path, split, label, fold ("" for test rows) and position of N images
    features: (N, D), in the same order
    images: by position
    """
    twins = find_twins(features, lambda row: images.pixels[row])
    table = table_of(twins, readable)
    write_csv(folder / "near_duplicates.csv", table)
    picture = folder / "near_duplicates.png"
    if not twins:
        picture.unlink(missing_ok=True)
        say("predict", "no near-duplicates among the images")
        return
    shots, titles = [], []
    for (one, other, agreement), row in zip(twins[:SHOWN], table.to_dict("records"), strict=False):
        for position, side in ((one, "1"), (other, "2")):
            shots.append(images[0, position])
            name = row[f"label_{side}"] or row[f"split_{side}"]
            titles.append(f"{row[f'image_id_{side}']}\n{name}, {agreement:.2f}")
    heading = f"near-duplicates: {min(SHOWN, len(twins))} of {count_of(len(twins), 'pair')}"
    save_grid(picture, shots, titles, min(8, max(4, len(shots))), heading)
    in_train = table[(table["split_1"] == "train") & (table["split_2"] == "train")]
    across = int((table["split_1"] != table["split_2"]).sum())
    unequal = int((in_train["label_1"] != in_train["label_2"]).sum())
    apart = int((in_train["fold_1"] != in_train["fold_2"]).sum())
    say(
        "predict",
        f"{count_of(len(table), 'pair')} of near-duplicates: {len(in_train):,} within train ({unequal:,} with "
        f"different labels, {apart:,} in different folds), {across:,} across train and test "
        f"-> {shown(picture)} and .csv",
    )
    if apart > 0.01 * len(readable):
        say("predict", "note: near-duplicates in different folds make the score too good; name them as groups")


def table_of(twins: list[Twins], readable: pd.DataFrame) -> pd.DataFrame:
    """The pairs as a table: image_id, path, split, fold and label of both images, and their agreement."""
    columns = ["image_id", "path", "split", "fold", "label"]
    sides = {
        number: readable.iloc[[pair[place] for pair in twins]][columns].add_suffix(f"_{number}").reset_index(drop=True)
        for place, number in enumerate("12")
    }
    return pd.concat(
        [*sides.values(), pd.Series([pair.agreement for pair in twins], name="agreement", dtype=float)], axis=1
    )
