"""What the trained folds of a run make of an image, or of a folder of images.

    make classify IMAGE=photo.jpg COMPETITION=dogs-vs-cats
    make classify IMAGE=photos/ COMPETITION=dogs-vs-cats RECIPE=resnet18
    python -m pipeline.tools.classify --competition dogs-vs-cats --image photo.jpg

Reads   runs/<run>/fold<k>/weights.safetensors of all folds that are trained, and the images
Writes  runs/<run>/classified/<name>.png: the image, where the models look (Grad-CAM) and the classes as bars; of a
        folder <name>.csv (image, label, p_<class>...) and a grid of its first images
"""

from __future__ import annotations

from pathlib import Path

from pipeline.records.console import answer_early, parser_for, run_stage, say
from pipeline.records.errors import FoldwiseError, count_of
from pipeline.records.paths import is_no_text


def required_image(name: str) -> Path:
    """The file or folder of this name; raises FoldwiseError where there is none."""
    if is_no_text(name):
        raise FoldwiseError(f"the name {name!a} is no UTF-8 text; rename it")
    path = Path(name)
    if not name or not (path.is_file() or path.is_dir()):
        what = f"there is no '{name}'" if name else "no image is named"
        raise FoldwiseError(f"{what}; type: make classify IMAGE=photo.jpg (a file or a folder)")
    return path


PARSER = parser_for(__doc__, run=True, device=True)
PARSER.add_argument("--image", default="", metavar="PATH", help="an image, or a folder of images")
if __name__ == "__main__":  # before the imports that take seconds
    answer_early(PARSER)
    run_stage(lambda: required_image(PARSER.parse_args().image))
    say("classify", "loading torch and the other packages, which takes some seconds")

import numpy as np
import pandas as pd
import torch

from pipeline.learner.batches import Normalize
from pipeline.learner.device import Arrangement, Precision, choose_workers, find_device
from pipeline.learner.gradcam import grad_cam
from pipeline.learner.inference import predict_probs, tta_views
from pipeline.learner.trained import load_folds
from pipeline.pixels.augment import eval_transforms
from pipeline.pixels.cache import Pixels
from pipeline.pixels.dataset import EpochBatches, ImageDataset, Loader, Watched
from pipeline.pixels.decode import Unreadable, inspect
from pipeline.pixels.pictures import save_grid, save_look
from pipeline.records.competition import load_competition
from pipeline.records.console import make_line, paths_of
from pipeline.records.listing import list_files
from pipeline.records.paths import shown
from pipeline.records.runs import asked_run, differences, made_of
from pipeline.records.tables import write_csv

#: Images of a folder that its picture shows, and classes that are printed and drawn.
MOST_IMAGES, MOST_CLASSES = 48, 8


def readable(files: list[Path], names: list[str]) -> pd.DataFrame:
    """Rows (image_id, path, width, height, sha256, position) of the files that hold a picture; names the others, and
    raises FoldwiseError when none is left."""
    rows, reason = [], ""
    for path, name in zip(files, names, strict=True):
        try:
            seen = inspect(path)
            rows.append((name, str(path.resolve()), seen.width, seen.height, seen.sha256))
        except (Unreadable, OSError) as fault:
            reason = f"{shown(path)} cannot be read: {fault}"
            say("classify", f"note: {reason}")
    if not rows:
        raise FoldwiseError(reason)
    table = pd.DataFrame(rows, columns=["image_id", "path", "width", "height", "sha256"])
    return table.assign(position=np.arange(len(table)))


def report_folder(dataset: ImageDataset, probs: np.ndarray, names: list[str], target: Path, by: str) -> None:
    """Writes the CSV and the picture of many images, probs (N, C) by row of the dataset."""
    best = probs.argmax(axis=1)
    table = pd.DataFrame(probs, columns=[f"p_{name}" for name in names])
    table.insert(0, "image", dataset.ids)
    table.insert(1, "label", [names[position] for position in best])
    write_csv(target.with_name(f"{target.name}.csv"), table)
    shots = [dataset[0, row] for row in range(min(len(dataset), MOST_IMAGES))]
    titles = [f"{names[best[row]]} ({probs[row, best[row]]:.0%})" for row in range(len(shots))]
    more = f", the first {len(shots)}" if len(shots) < len(dataset) else ""
    heading = f"{target.name}: {count_of(len(dataset), 'image')}{more}, as seen by {by}"
    save_grid(target.with_name(f"{target.name}.png"), shots, titles, min(8, len(shots)), heading)
    counts = table["label"].value_counts()
    listing = ", ".join(f"{name} {counts[name]:,}" for name in names if name in counts)
    say("classify", f"{count_of(len(dataset), 'image')}: {listing} -> {shown(target)}.csv and .png")


def report_image(
    image: np.ndarray, heat: np.ndarray | None, by_fold: np.ndarray, names: list[str], target: Path, by: str
) -> None:
    """Prints and draws one image (S, S, 3), where the models look, and the probabilities by_fold (K, C)."""
    probs = by_fold.mean(axis=0)
    order = probs.argsort()[::-1][:MOST_CLASSES]
    picture = target.with_name(f"{target.name}.png")
    heading = f"{target.name}: {names[order[0]]} ({probs[order[0]]:.1%}), by {by}"
    save_look(picture, image, heat, [names[position] for position in order], by_fold[:, order], heading)
    say("classify", f"{target.name}: {names[order[0]]}, by {by}")
    for position in order:
        print(f"    {names[position]:<16} {probs[position]:.4f}")
    say("classify", f"the image, its classes and where the models look -> {shown(picture)}")


def main() -> None:
    args = PARSER.parse_args()
    path = required_image(args.image)
    paths = paths_of(args)
    competition = load_competition(paths)
    run, recipe = asked_run(args, competition)
    folds = [fold for fold in range(competition.folds.n) if (paths.fold(run, fold) / "trained.json").exists()]
    before = made_of(paths, run)
    if not folds or before is None:
        raise FoldwiseError(f"no fold of {run} is trained on {paths.competition}; type: {make_line('train', args)}")
    if differing := differences({key: before.get(key) for key in recipe.model_dump()}, recipe.model_dump()):
        raise FoldwiseError(f"{shown(paths.run(run))} was made with other settings ({differing}); undo the change")
    names = before["class_names"]

    files = [path / name for name in list_files(path)] if path.is_dir() else [path]
    if not files:
        raise FoldwiseError(f"{shown(path)} is empty")
    rows = readable(files, [str(file.relative_to(path)) if path.is_dir() else path.name for file in files])
    device = find_device(args.device)
    modules, preprocessing = load_folds(paths, run, folds, recipe, before)
    arrangement = Arrangement.chosen(recipe, device, args.threads, 0, args.deterministic)
    arrangement.set_up()
    placed = [arrangement.place(module, device) for module in modules.values()]
    normalize = Normalize(preprocessing, arrangement.channels_last).to(device)
    dataset = ImageDataset(
        Pixels(paths.home, rows, recipe.cache_side, None), rows, eval_transforms(recipe, preprocessing)
    )
    workers = choose_workers(args.workers, device, False, arrangement.threads)
    loader = Loader(dataset, EpochBatches(len(rows), recipe.batch_size), workers, device.type == "cuda")
    views = tta_views(competition.symmetries if recipe.tta else [])
    by_fold = np.stack(
        predict_probs(placed, normalize, Watched(loader, "classify", "looking"), views, Precision(arrangement, device))
    )  # (folds, N, C)

    target = paths.run(run) / "classified" / path.resolve().name[:100]
    by = f"{count_of(len(folds), 'fold')} of {run} on {paths.competition}"
    if path.is_dir():
        report_folder(dataset, by_fold.mean(axis=0), names, target, by)
        return
    inputs = normalize(torch.from_numpy(dataset[0, 0])[None].to(device))
    top = int(by_fold.mean(axis=0)[0].argmax())
    heats = [heat for module in placed if (heat := grad_cam(module, inputs, top)) is not None]
    report_image(dataset[0, 0], np.mean(heats, axis=0) if heats else None, by_fold[:, 0], names, target, by)


if __name__ == "__main__":
    run_stage(main)
