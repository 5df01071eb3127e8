"""Classifies an image, or a folder of images, with the trained folds of a run.

    make classify IMAGE=photo.jpg COMPETITION=dogs-vs-cats
    make classify IMAGE=photos/ COMPETITION=dogs-vs-cats RECIPE=resnet18
    python -m pipeline.tools.classify --competition dogs-vs-cats --image photo.jpg

Reads   runs/<run>/fold<k>/weights.safetensors of all trained folds, and the images
Writes  runs/<run>/classified/<name>.png: the image, where the models look (Grad-CAM), and the class probabilities as
        bars; for a folder, <name>.csv (image, label, p_<class>...) and <name>.png, a grid of its first images
"""

from __future__ import annotations

from pathlib import Path

from pipeline.records.command_line import parser_for
from pipeline.system.console import answer_early, run_stage, say
from pipeline.system.errors import InputError, count_of
from pipeline.system.places import is_not_utf8


def required_image(name: str) -> Path:
    """The path of this file or folder; raises FoldwiseError if it does not exist."""
    if is_not_utf8(name):
        raise InputError(f"the name {name!a} is not UTF-8 text; rename it")
    path = Path(name)
    if not name or not (path.is_file() or path.is_dir()):
        what = f"there is no '{name}'" if name else "no image is given"
        raise InputError(f"{what}; type: make classify IMAGE=photo.jpg (a file or a folder)")
    return path


PARSER = parser_for(__doc__, "run", "folds", "seeds", "device")
PARSER.add_argument("--image", default="", metavar="PATH", help="an image, or a folder of images")
if __name__ == "__main__":  # before the imports that take seconds
    answer_early(PARSER)
    run_stage(lambda: required_image(PARSER.parse_args().image))
    say("classify", "loading torch and the other packages, which takes some seconds")

import numpy as np
import pandas as pd
import torch

from pipeline.formats.listing import list_files
from pipeline.learner.gradcam import grad_cam
from pipeline.learner.inference import Model
from pipeline.learner.outside import Outside
from pipeline.pixels.dataset import ImageDataset
from pipeline.pixels.decode import MAX_PIXELS, Unreadable, inspect
from pipeline.pixels.pictures import Bars, save_classified, save_grid
from pipeline.records.job import Job, job_of
from pipeline.records.tables import write_csv
from pipeline.system.places import shown
from pipeline.tasks.task import Rule, Task

#: Maximum number of images in the grid of a folder, and of classes that are printed and drawn.
MAX_IMAGES, MAX_CLASSES = 48, 8


def readable_images(files: list[Path], names: list[str], max_pixels: int | None = None) -> pd.DataFrame:
    """Table of the readable images: image_id, path, width, height, sha256, position.

    Prints a note for each unreadable file; raises FoldwiseError if no file is readable.
    """
    rows, reason = [], ""
    for path, name in zip(files, names, strict=True):
        try:
            seen = inspect(path, max_pixels or MAX_PIXELS)
            rows.append((name, str(path.resolve()), seen.width, seen.height, seen.sha256))
        except (Unreadable, OSError) as fault:
            reason = f"{shown(path)} cannot be read: {fault}"
            say("classify", f"note: {reason}")
    if not rows:
        raise InputError(reason)
    table = pd.DataFrame(rows, columns=["image_id", "path", "width", "height", "sha256"])
    return table.assign(position=np.arange(len(table)))


def report_folder(
    dataset: ImageDataset, predictions: np.ndarray, task: Task, rule: Rule, target: Path, by: str
) -> pd.DataFrame:
    """Writes the CSV and the picture of a folder; returns the table (image, label, p_<class>...).

    predictions: (N, C), in the order of the dataset
    rule: how predictions become decisions
    target: path of both files, without the suffix
    by: description of the models, for the heading
    """
    table = task.table(predictions)
    table.insert(0, "image", dataset.ids)
    table.insert(1, "label", task.best(predictions, rule))
    write_csv(target.with_name(f"{target.name}.csv"), table)
    images = [dataset[0, row] for row in range(min(len(dataset), MAX_IMAGES))]
    titles = [task.describe(predictions[row], rule) for row in range(len(images))]
    more = f", the first {len(images)}" if len(images) < len(dataset) else ""
    heading = f"{target.name}: {count_of(len(dataset), 'image')}{more}, predicted by {by}"
    save_grid(target.with_name(f"{target.name}.png"), images, titles, min(8, len(images)), heading)
    listing = ", ".join(f"{name} {len(rows):,}" for name, rows in task.members(table["label"]).items())
    say("classify", f"{count_of(len(dataset), 'image')}: {listing} -> {shown(target)}.csv and .png")
    return table


def report_image(dataset: ImageDataset, heat: np.ndarray | None, bars: Bars, target: Path, heading: str) -> None:
    """Prints and draws the predictions for the image of a dataset.

    heat: where the models look, (S, S) in 0..1; None if the models have no feature maps
    bars: the predictions to show
    target: path of the picture, without the suffix
    heading: the prediction in words, and the models
    """
    picture = target.with_suffix(".png")
    save_classified(picture, dataset[0, 0], heat, bars, f"{target.name}: {heading}")
    say("classify", f"{target.name}: {heading}")
    width = max(16, *map(len, bars.names))
    for name, value in zip(bars.names, bars.values.mean(axis=0), strict=True):
        print(f"    {name:<{width}} {value:.4f}")
    say("classify", f"picture of the image, its predictions and where the models look -> {shown(picture)}")


def bars_of(by_fold: np.ndarray, models: list[Model], rule: Rule) -> tuple[Bars, int]:
    """What to draw of predictions (K, C) of K folds, and the target whose evidence is drawn."""
    task, mean = models[0].task, by_fold.mean(axis=0)
    order = np.arange(len(mean))
    if task.kind in ("classification", "multilabel") or len(mean) > MAX_CLASSES:
        order = mean.argsort()[::-1][:MAX_CLASSES]
    names = [task.target_names[place] for place in order]
    evidence = int((mean * task.decide(mean[None], rule)[0]).argmax()) if task.kind != "regression" else int(order[0])
    ranges = None
    if task.kind == "regression":
        fits = [model.task.fitted_to for model in models]
        low = np.min([fit["low"] for fit in fits], axis=0)
        high = np.max([fit["high"] for fit in fits], axis=0)
        ranges = np.stack([low, high], axis=1)[order]
    return Bars(names, by_fold[:, order], ranges, task.target_names[evidence]), evidence


def run(job: Job, path: Path) -> pd.DataFrame:
    """Predicts an image, or all images of a folder; returns the table (image, label, p_<class>...)."""
    outside = Outside(job)
    task, rule = outside.task, outside.rule
    files = [path / name for name in list_files(path)] if path.is_dir() else [path]
    if not files:
        raise InputError(f"{shown(path)} is empty")
    names = [str(file.relative_to(path)) if path.is_dir() else path.name for file in files]
    rows = readable_images(files, names, job.competition.max_pixels)
    dataset = outside.dataset(rows)
    by_fold = np.stack([outside.after_steps(each) for each in outside.predict(dataset, "classify")])  # (folds, N, C)
    mean = by_fold.mean(axis=0)

    target = job.run_folder / "classified" / path.resolve().name[:100]
    by = outside.described
    if job.run.name != job.paths.competition:  # else it would be named twice
        by += f" on {job.paths.competition}"
    if path.is_dir():
        return report_folder(dataset, mean, task, rule, target, by)
    inputs = outside.normalize(torch.from_numpy(dataset[0, 0])[None].to(outside.compute.device))
    bars, evidence = bars_of(by_fold[:, 0], outside.models, rule)
    heats = [heat for module, _ in outside.models if (heat := grad_cam(module, inputs, evidence)) is not None]
    heat = np.mean(heats, axis=0) if heats else None
    report_image(dataset, heat, bars, target, f"{task.describe(mean[0], rule)}, by {by}")
    table = task.table(mean)
    table.insert(0, "image", dataset.ids)
    table.insert(1, "label", task.best(mean, rule))
    return table


def main(argv: list[str] | None = None) -> None:
    args = PARSER.parse_args(argv)
    path = required_image(args.image)
    run(job_of(args), path)


if __name__ == "__main__":
    run_stage(main)
