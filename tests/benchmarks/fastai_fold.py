"""One fold as fastai trains it: vision_learner from scratch, ten epochs of its one-cycle schedule, its augmentations.

    python -m tests.benchmarks.fastai_fold --folds data/.../folds.csv --images data/.../images --seed 0

Prints one line of JSON. fastai is no dependency of ours; install it in an environment of its own.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import pandas as pd
import torch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folds", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    from fastai.vision.all import (  # type: ignore[import-not-found]
        ImageDataLoaders,
        Resize,
        accuracy,
        aug_transforms,
        resnet18,
        set_seed,
        vision_learner,
    )

    began, cpu = time.perf_counter(), time.process_time()
    set_seed(args.seed, reproducible=True)
    folds = pd.read_csv(args.folds, dtype={"image_id": str})
    folds["file"], folds["is_val"] = folds["image_id"] + ".jpg", folds["fold"] == args.fold
    loaders = ImageDataLoaders.from_df(
        folds, args.images / "train", fn_col="file", label_col="label", valid_col="is_val", bs=64, num_workers=0,
        item_tfms=Resize(80), batch_tfms=aug_transforms(size=64),
    )  # fmt: skip
    learner = vision_learner(loaders, resnet18, pretrained=False, metrics=accuracy)
    with learner.no_bar(), learner.no_logging():
        learner.fit_one_cycle(10, 3e-3)
    seconds = {"wall": time.perf_counter() - began, "cpu": time.process_time() - cpu}
    print(json.dumps({"accuracy": float(learner.recorder.values[-1][-1]), **seconds}))


if __name__ == "__main__":
    main()
