"""Stage 4: train one fold.

    make train FOLD=0
    make train COMPETITION=dogs-vs-cats RECIPE=resnet18 FOLD=0 SET="epochs=2 lr=1e-3"
    python -m pipeline.train --competition dogs-vs-cats --recipe resnet18 --fold 0

Reads   manifest.csv, folds.csv, the images, and the recipe
Writes  runs/<run>/fold<k>/: state.pt after each epoch, so that the same command goes on after an interrupt;
        log.csv, events..., augmented.png, curves.png, weights.safetensors; and, last, trained.json
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from timm.utils import ModelEmaV3
from torch import nn

from pipeline.learner.batches import Mixer, Normalize, build_loss
from pipeline.learner.checkpoint import load_state, save_state, save_weights
from pipeline.learner.device import Arrangement, Precision, choose_workers, find_device, keep_freed_memory
from pipeline.learner.inference import predict_probs
from pipeline.learner.journal import Journal
from pipeline.learner.models import build_model
from pipeline.learner.optim import build_optimizer, lr_at, set_lr
from pipeline.learner.resident import on_device, train_batches, val_batches
from pipeline.pixels.augment import alternates, eval_transforms, train_transforms
from pipeline.pixels.cache import open_pixels, readable_rows
from pipeline.pixels.dataset import Batches, EpochBatches, ImageDataset
from pipeline.pixels.pictures import save_grid
from pipeline.records.competition import load_competition
from pipeline.records.console import beside, duration, make_line, parser_for, paths_of, progress, run_stage, say
from pipeline.records.errors import FoldwiseError, count_of
from pipeline.records.files import write_json
from pipeline.records.metrics import METRICS, log_loss
from pipeline.records.paths import parse_folds, shown
from pipeline.records.provenance import provenance
from pipeline.records.recipe import Recipe
from pipeline.records.runs import asked_run, check_run, identity, start_run
from pipeline.records.tables import (
    class_names,
    one_hot,
    read_folds,
    read_manifest,
    require_same_ids,
)


def seed_step(*key: int) -> None:
    """Makes torch's draws (dropout, mixing) a function of (seed, fold, step), so that any step can come first."""
    torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0]))


@dataclass(frozen=True)
class FoldData:
    """What a fold learns from, and what it is judged by.

    train_targets: (N, C) float32 by row of the train batches; val_labels: (M,) int by row of the validation batches.
    """

    train: Batches
    val: Batches
    train_targets: np.ndarray
    val_labels: np.ndarray
    metric_name: str


def train_fold(
    recipe: Recipe,
    fold: int,
    module: nn.Module,
    normalize: nn.Module,
    data: FoldData,
    arrangement: Arrangement,
    device: torch.device,
    folder: Path,
    state: dict[str, Any] | None,
) -> tuple[nn.Module, Journal]:
    """Trains from the saved state, or from the start, to the recipe's end; returns the module to keep and the journal.

    The weights kept are those of the last step, or their moving average: no epoch is picked by its validation score,
    which would make the out-of-fold score too good. Nothing in a step waits for the device.
    """
    precision = Precision(arrangement, device)
    scaler, metric, steps = precision.scaler, METRICS[data.metric_name], len(data.train)
    optimizer = build_optimizer(module, recipe, device)
    loss_of = build_loss(data.train_targets, recipe).to(device)
    mix = Mixer(recipe)
    ema = ModelEmaV3(module, decay=recipe.ema_decay, use_warmup=True) if recipe.ema_decay else None
    kept = ema.module if ema else module
    targets_of = torch.from_numpy(data.train_targets).to(device)

    first_epoch, history = 0, []
    if state:
        module.load_state_dict(state["module"])
        kept.load_state_dict(state["kept"])
        optimizer.load_state_dict(state["optimizer"])
        scaler.load_state_dict(state["scaler"])
        first_epoch, history = state["epoch"] + 1, state["history"]
        say("train", f"fold {fold}: going on after epoch {first_epoch} of {recipe.epochs}")
    journal = Journal(folder, fold, recipe.epochs, data.metric_name, history)
    if arrangement.compiled:
        module.compile()

    for epoch in range(first_epoch, recipe.epochs):
        module.train()
        losses, logits_seen, rows_seen = [], [], []
        batches = on_device(data.train.epoch(epoch), device)
        watched = progress(batches, steps, "train", f"fold {fold}, epoch {epoch + 1} of {recipe.epochs}", 60)
        for step, (images, rows) in enumerate(watched, start=epoch * steps):
            seed_step(recipe.seed, fold, step)
            lr = lr_at(step, steps, recipe)
            set_lr(optimizer, lr)
            inputs, targets = mix(normalize(images), targets_of[rows.to(device, non_blocking=True)])

            parts = zip(inputs.chunk(recipe.accumulate), targets.chunk(recipe.accumulate), strict=True)
            for part, part_targets in parts:
                with precision.autocast():
                    logits = module(part)
                loss = loss_of(logits.float(), part_targets) * (len(part) / len(inputs))
                scaler.scale(loss).backward()
                losses.append(loss.detach())
                logits_seen.append(logits.detach().float())
            if recipe.clip_grad:
                scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(module.parameters(), recipe.clip_grad)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
            if ema:
                ema.update(module, step=step)
            rows_seen.append(rows)

        train_loss = float(torch.stack(losses).sum() / steps)
        if not np.isfinite(train_loss):
            raise FoldwiseError(
                f"fold {fold}: the loss is {train_loss} in epoch {epoch + 1} at lr = {lr:.2g}; nothing of this "
                f'epoch was saved; try SET="lr={recipe.lr / 3:.1g}" or clip_grad=1'
            )
        train_probs = torch.cat(logits_seen).softmax(dim=1).cpu().numpy()
        train_score = metric(data.train_targets[torch.cat(rows_seen)].argmax(axis=1), train_probs)
        val_probs = predict_probs([kept], normalize, data.val, [()], precision)[0]
        val_loss, val_score = log_loss(data.val_labels, val_probs), metric(data.val_labels, val_probs)
        journal.add(lr=lr, train_loss=train_loss, train_score=train_score, val_loss=val_loss, val_score=val_score)
        save_state(
            folder / "state.pt",
            {
                "device": device.type,
                "arrangement": arrangement.as_dict(),
                "epoch": epoch,
                "history": journal.history,
                "module": module.state_dict(),
                "kept": kept.state_dict(),
                "optimizer": optimizer.state_dict(),
                "scaler": scaler.state_dict(),
            },
        )
    return kept, journal


def draw_batch(dataset: ImageDataset, labels: pd.Series, path: Path) -> None:
    """A picture of augmented train images, as the model sees them in its last epoch."""
    picked = np.random.default_rng(0).permutation(len(dataset))[:24]
    shots = [dataset[len(dataset.transforms) - 1, int(row)] for row in picked]
    save_grid(path, shots, labels.iloc[picked].tolist(), 8, "train images after augmentation")


def main() -> None:
    args = parser_for(__doc__, run=True, fold=True).parse_args()
    paths = paths_of(args)
    competition = load_competition(paths)
    run, recipe = asked_run(args, competition)
    fold = parse_folds(str(args.fold), competition.folds.n)[0]
    folder = paths.fold(run, fold)

    folds = read_folds(paths.folds, competition.folds.n)
    manifest = read_manifest(paths.manifest)
    train_split = readable_rows(manifest).query("split == 'train'")
    require_same_ids(train_split["image_id"], folds["image_id"], shown(paths.folds), "run the folds stage again")
    table = folds.merge(train_split[["image_id", "position"]], on="image_id", validate="1:1")
    train_rows, val_rows = table[table["fold"] != fold], table[table["fold"] == fold]
    names = class_names(folds, competition.classes)

    wanted = identity(recipe, competition, paths, names, manifest)
    check_run(paths, run, wanted)
    if (folder / "trained.json").exists():
        say("train", f"fold {fold} of {run} is trained already; delete {shown(folder)} to train it again")
        return

    pixels = open_pixels(paths, readable_rows(manifest), recipe.cache_side, "train")
    train_data = ImageDataset(
        pixels,
        train_rows,
        train_transforms(recipe, competition.symmetries),
        recipe.seed,
        alternates(recipe, competition.symmetries),
    )
    val_data = ImageDataset(pixels, val_rows, eval_transforms(recipe))

    device = find_device(args.device)
    state = load_state(folder / "state.pt")
    arrangement = Arrangement.chosen(recipe, device, args.threads, len(train_data))
    if state and state["device"] == device.type:
        arrangement = Arrangement(**state["arrangement"])
    elif state:
        say("train", f"note: fold {fold} began on {state['device']} and goes on on {device}, with other last bits")
    torch.set_num_threads(arrangement.threads)
    keep_freed_memory()
    seed_step(recipe.seed, fold)
    network = build_model(recipe.model, len(names), recipe.pretrained, **recipe.model_args)
    module = arrangement.place(network.module, device)
    normalize = Normalize(network.mean, network.std, arrangement.channels_last).to(device)

    workers = choose_workers(args.workers, device, pixels.cached is not None, arrangement.threads)
    order = EpochBatches(len(train_data), recipe.batch_size, recipe.seed, limit=2 if args.dry_run else None)
    data = FoldData(
        train=train_batches(train_data, order, workers, device),
        val=val_batches(val_data, recipe, workers, device),
        train_targets=one_hot(train_rows["label"], names),
        val_labels=one_hot(val_rows["label"], names).argmax(axis=1),
        metric_name=competition.metric,
    )
    say(
        "train",
        f"fold {fold} of {run}: {recipe.model} on {len(train_rows):,} images, {len(val_rows):,} to validate; "
        f"{device}, {count_of(arrangement.threads, 'thread')}{beside()}",
    )
    folder.mkdir(parents=True, exist_ok=True)
    draw_batch(train_data, train_rows["label"], folder / "augmented.png")
    start_run(paths, run, recipe, wanted)

    kept, journal = train_fold(recipe, fold, module, normalize, data, arrangement, device, folder, state)
    journal.close(f"{paths.competition}, {run}, fold {fold}")
    about = {"made_of": wanted, "fold": fold, "mean": network.mean, "std": network.std}
    save_weights(folder / "weights.safetensors", kept, about)
    last, seconds = journal.history[-1], journal.table["seconds"].sum()
    machine = {"device": str(device), "seconds": seconds, **arrangement.as_dict(), **provenance()}
    write_json(folder / "trained.json", {"fold": fold, "last_epoch": last, "made_of": wanted, **machine})
    (folder / "state.pt").unlink(missing_ok=True)
    say(
        "train",
        f"fold {fold}: {competition.metric} {last['val_score']:.4f} in {duration(seconds)} -> {shown(folder)}; "
        f"next: {make_line('submit', args)} FOLDS={fold}",
    )


if __name__ == "__main__":
    run_stage(main)
