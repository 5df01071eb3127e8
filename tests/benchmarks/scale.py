"""How time and memory of the stages without pixels grow with the rows of the manifest, to a million of them.

    python -m tests.benchmarks.scale                                  about an hour on one core
    python -m tests.benchmarks.scale --rows 10000 --only plain,groups --root /dev/shm/scale

Writes  data/bench/scale/table.md; the competitions that it makes there, or below --root, are removed again

A synthetic competition has empty files of realistic names, and predictions of five folds that are right nine times in
ten. Each stage is a process of its own, as make runs it; the manifest stage takes what it would find in the files for
granted. "train, its tables" is what a train process holds for the rows, beside model and pixels.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.records.job import make_job
from pipeline.records.paths import Paths
from pipeline.records.predictions import Predictions
from pipeline.records.runs import identity, open_run, start_run
from pipeline.records.tables import read_folds, read_manifest
from pipeline.records.task import read_task
from pipeline.records.up_to_date import predict_files
from pipeline.system.console import duration
from pipeline.system.files import fingerprint, write_json, write_record, write_text
from pipeline.system.places import shown
from tests.benchmarks.arena import CHECKOUT, Finished, run

OUT = CHECKOUT / "data" / "bench" / "scale"
NAME, RECIPE, FOLDS = "scale", "resnet18", 5

TOML = """
title  = "Scale"
metric = "{metric}"
classes = {classes}
recipe = "resnet18"
[train]
images  = "train"
pattern = '^(?P<label>[a-z]+\\d+){group}[.](?P<id>\\d+)[.]jpg$'
[test]
images  = "test"
pattern = '^(?P<id>\\d+)[.]jpg$'
[submission]
columns = ["id", {columns}]
value   = "columns"
sample  = "sample_submission.csv"
"""


@dataclass(frozen=True)
class Shape:
    """What a competition is like."""

    metric: str = "log_loss"
    classes: int = 10
    test_share: float = 0.1
    per_group: int = 1  # train rows in a group
    most_rows: int = 1_000_000  # larger ones are left out


SHAPES = {
    "plain": Shape(),
    "half": Shape(test_share=0.5),
    "accuracy": Shape("accuracy"),
    "roc_auc": Shape("roc_auc"),
    "groups": Shape(per_group=4),
    "classes": Shape(classes=1000, most_rows=100_000),
}


def make_competition(home: Path, shape: Shape, rows: int) -> None:
    """competition.toml, empty images in their folders, and the sample submission."""
    test_rows = round(rows * shape.test_share)
    names = [f"kind{label:03}" for label in range(shape.classes)]
    for split in ("train", "test"):
        (home / "images" / split).mkdir(parents=True)
    shares = np.linspace(3, 1, shape.classes)  # the first class is three times as large as the last
    labels = np.random.default_rng(0).choice(shape.classes, rows - test_rows, p=shares / shares.sum())
    for number in range(rows - test_rows):
        group = f".patient{number // shape.per_group}" if shape.per_group > 1 else ""
        (home / "images" / "train" / f"{names[labels[number]]}{group}.{number}.jpg").touch()
    for number in range(test_rows):
        (home / "images" / "test" / f"{number}.jpg").touch()
    group = "[.](?P<group>patient\\d+)" if shape.per_group > 1 else ""
    facts = TOML.format(metric=shape.metric, classes=names, columns=str(names)[1:-1], group=group)
    (home / "competition.toml").write_text(facts)
    lines = [f"{number}" + ",0" * shape.classes for number in range(test_rows)]
    (home / "sample_submission.csv").write_text("\n".join([",".join(["id", *names]), *lines]) + "\n")


# --- parts that are processes of their own ------------------------------------------------------------------------


def manifest_part() -> None:
    """The manifest stage, with what it would find in the files taken for granted."""
    from pipeline import manifest
    from pipeline.pixels import inspection
    from pipeline.pixels.decode import Inspection

    inspection.inspect_all = lambda files, *_: [Inspection(320, 240, fingerprint(str(file))) for file in files]
    manifest.draw_contact_sheet = lambda *_: None
    sys.argv = ["manifest", "--competition", NAME]
    manifest.main()


def predictions_part() -> None:
    """What train and predict would leave in the folders of five folds."""
    job = make_job(NAME, RECIPE)
    tables, paths = open_run(job), job.paths
    manifest, folds, names = tables.manifest, tables.folds, tables.task.target_names
    start_run(job, tables.identity, None)
    rng = np.random.default_rng(0)
    test_ids = manifest.loc[manifest["split"] == "test", "image_id"]
    test_labels = rng.integers(len(names), size=len(test_ids))

    def predicted(ids: pd.Series, labels: np.ndarray) -> Predictions:
        logits = rng.normal(size=(len(ids), len(names))).astype(np.float32)
        logits[np.arange(len(ids)), labels] += 4 + np.log(len(names) / 10)
        probs = np.exp(logits)
        return Predictions(ids.to_numpy(str), np.array(names), probs / probs.sum(axis=1, keepdims=True))

    for fold in range(FOLDS):
        folder, rows = paths.fold(RECIPE, fold), folds[folds["fold"] == fold]
        labels = tables.task.truth(tables.task.targets(rows["label"]))
        sha256 = {
            "oof": predicted(rows["image_id"], labels).save(folder / "oof.npz"),
            "test": predicted(test_ids, test_labels).save(folder / "test.npz"),
        }
        trained = {"train_score": 0.9, "seconds": 1.0, "beside": 1, "device": "cpu", "weights_sha256": ""}
        write_json(folder / "trained.json", trained)
        target = predict_files(paths, job.run, fold)
        record = target.new_record(target.hash_inputs(), [folder / "oof.npz", folder / "test.npz"])
        write_record(target.record, {"fold": fold, "sha256": sha256, "weights_sha256": "", **record})


def tables_part() -> None:
    """What a train process holds for the rows before its first batch."""
    from pipeline.pixels.augment import eval_transforms
    from pipeline.pixels.cache import Pixels, cache_path, readable_rows
    from pipeline.pixels.dataset import ImageDataset
    from pipeline.pixels.preprocessing import IMAGENET

    paths = Paths(NAME)
    job = make_job(NAME, RECIPE)
    recipe, before = job.recipe, resident()
    manifest = read_manifest(paths.manifest)
    folds = read_folds(paths.folds, FOLDS, manifest)
    readable = readable_rows(manifest)
    table = folds.merge(readable[["image_id", "split", "position"]].query("split == 'train'"), validate="1:1")
    identity(job, read_task(job.paths, job.competition), manifest)
    tables = resident()
    pixels = Pixels(paths.home, readable, recipe.cache_side, cache_path(paths, readable, recipe.cache_side))
    whole = eval_transforms(recipe, IMAGENET)
    datasets = [ImageDataset(pixels, rows, whole) for rows in (table[table["fold"] != 0], table[table["fold"] == 0])]
    assert sum(map(len, datasets)) == len(table)
    print(f"{before:.0f} MB before, {tables:.0f} MB with tables, {resident():.0f} MB with pixels and datasets")


def resident() -> float:
    """Memory of this process (MB), as far as it lies in RAM."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


PARTS = {"manifest": manifest_part, "predictions": predictions_part, "tables": tables_part}

# --- the measuring ------------------------------------------------------------------------------------------------


def measured(root: Path) -> Iterator[tuple[str, Finished]]:
    """Each stage of the competition, and its process."""
    module, of_run = "tests.benchmarks.scale", ["--competition", NAME, "--recipe", RECIPE]
    yield "manifest, without pixels", run([sys.executable, "-m", module, "--part", "manifest"], root)
    yield "folds", run([sys.executable, "-m", "pipeline.folds", *of_run[:2]], root)
    yield "train, its tables", run([sys.executable, "-m", module, "--part", "tables"], root)
    run([sys.executable, "-m", module, "--part", "predictions"], root)
    yield "ensemble", run([sys.executable, "-m", "pipeline.ensemble", *of_run], root)
    yield "submit", run([sys.executable, "-m", "pipeline.submit", *of_run], root)


def sizes(root: Path) -> dict[str, float]:
    """Megabytes of the files that the stages meet in."""
    home, folder = root / "data" / NAME, root / "data" / NAME / "runs" / RECIPE
    files = {
        "manifest.csv": home / "manifest.csv", "folds.csv": home / "folds.csv", "oof.npz": folder / "fold0/oof.npz",
        "test.npz": folder / "fold0/test.npz", "oof.csv": folder / "oof.csv", "test.csv": folder / "test.csv",
        "submission": root / "submissions" / NAME / f"{RECIPE}.csv",
    }  # fmt: skip
    return {name: path.stat().st_size / 1e6 for name, path in files.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="10000,100000,1000000", metavar="N,N", help="rows of the manifest")
    parser.add_argument("--only", default=",".join(SHAPES), metavar="SHAPE,SHAPE", help=f"some of {' '.join(SHAPES)}")
    parser.add_argument("--root", type=Path, default=OUT, metavar="DIR", help="a folder to work in, such as one in RAM")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part:
        PARTS[args.part]()
        return
    args.root.mkdir(parents=True, exist_ok=True)
    os.environ["FOLDWISE_ROOT"] = str(args.root)
    home, submissions = args.root / "data" / NAME, args.root / "submissions" / NAME
    lines = ["| competition | rows | stage | seconds | CPU s | peak memory (MB) |", "|---|---|---|---|---|---|"]
    for name in args.only.split(","):
        for rows in (int(number) for number in args.rows.split(",")):
            if rows > SHAPES[name].most_rows:
                continue
            shutil.rmtree(home, ignore_errors=True)
            began = time.monotonic()
            make_competition(home, SHAPES[name], rows)
            print(f"{name}, {rows:,} rows, made in {duration(time.monotonic() - began)}", flush=True)
            for stage, done in measured(args.root):
                numbers = f"{done.wall:.1f} | {done.cpu:.1f} | {done.memory:.0f}"
                lines.append(f"| {name} | {rows:,} | {stage} | {numbers} |")
                print(lines[-1], flush=True)
                if "tables" in stage:
                    print("  " + done.output.strip())
            print("  MB: " + ", ".join(f"{file} {size:.1f}" for file, size in sizes(args.root).items()), flush=True)
            write_text(OUT / "table.md", "\n".join(lines) + "\n")
            shutil.rmtree(home)
            shutil.rmtree(submissions)
    print(f"-> {shown(OUT / 'table.md')}")


if __name__ == "__main__":
    main()
