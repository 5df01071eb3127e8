"""Stage 4: train one fold.

    make train FOLD=0
    make train COMPETITION=dogs-vs-cats RECIPE=resnet18 FOLD=0 SET="epochs=2 lr=1e-3"
    python -m pipeline.train --competition dogs-vs-cats --recipe resnet18 --fold 0
    torchrun --nproc-per-node 4 -m pipeline.train --competition dogs-vs-cats --recipe resnet18 --fold 0

Reads   manifest.csv, folds.csv, the images, and the recipe
Writes  runs/<run>/fold<k>/: arrangement.json, checkpoints/ (after an epoch, every five minutes and when it is
        stopped, so that the same command goes on where it was), log.csv, events..., pictures (augmented.png,
        curves.png, validation.png, confusion.png), weights.safetensors; and, last, trained.json
"""

from __future__ import annotations

from pipeline.records.console import answer_early, parser_for

PARSER = parser_for(__doc__, run=True, fold=True)
if __name__ == "__main__":  # before the imports that take seconds
    answer_early(PARSER, "train")

import time
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from timm.utils import ModelEmaV3
from torch import nn

from pipeline.learner.album import draw_batch, draw_judged
from pipeline.learner.batches import Mixer, Normalize, build_loss
from pipeline.learner.checkpoint import Checkpoints, Training, require_room, save_weights
from pipeline.learner.device import Arrangement, Precision, choose_workers
from pipeline.learner.divergence import require_finite
from pipeline.learner.inference import predict_probs, tta_views
from pipeline.learner.journal import Journal
from pipeline.learner.memory import arrange
from pipeline.learner.models import build_model
from pipeline.learner.optim import build_optimizer, lr_at, set_lr
from pipeline.learner.ranks import Ranks, joined
from pipeline.learner.resident import on_device, train_batches, val_batches
from pipeline.learner.transfer import set_frozen
from pipeline.pixels.augment import alternates, eval_transforms, train_transforms
from pipeline.pixels.cache import open_pixels, readable_rows
from pipeline.pixels.dataset import Batches, EpochBatches, Heeding, ImageDataset
from pipeline.records.competition import load_competition
from pipeline.records.console import beside, duration, folds_beside, next_step, paths_of, run_stage, say
from pipeline.records.errors import count_of
from pipeline.records.files import fingerprint, write_json
from pipeline.records.locks import owned
from pipeline.records.metrics import METRICS, log_loss
from pipeline.records.paths import parse_folds, shown
from pipeline.records.provenance import provenance
from pipeline.records.recipe import Recipe
from pipeline.records.runs import asked_run, check_run, identity, start_run
from pipeline.records.signals import Stop
from pipeline.records.tables import class_names, one_hot, read_folds, read_manifest

#: Steps between two looks at the losses, which lie on the device: looking waits for it.
LOOK_EVERY = 50


def seed_step(*key: int) -> None:
    """Makes torch's draws (dropout, mixing) a function of (seed, fold, step), so that any step can come first."""
    torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0]))


@dataclass(frozen=True)
class FoldData:
    """What a fold learns from, and what it is judged by.

    train_ids: (N,) and train_targets: (N, C) float32 by row of the train batches; val_labels: (M,) int by row of the
    validation batches. to_predict: pictures that will pass through models once the folds are trained.
    """

    train: Batches
    val: Batches
    train_ids: list[str]
    train_targets: np.ndarray
    val_labels: np.ndarray
    metric_name: str
    to_predict: int


def train_fold(
    recipe: Recipe,
    fold: int,
    module: nn.Module,
    normalize: nn.Module,
    data: FoldData,
    arrangement: Arrangement,
    device: torch.device,
    folder: Path,
    checkpoints: Checkpoints,
    stop: Stop,
    ranks: Ranks,
) -> tuple[nn.Module, np.ndarray, Journal]:
    """Trains from the newest checkpoint, or from the start, to the recipe's end; returns the module to keep, its
    validation probabilities (M, C) and the journal.

    The weights kept are those of the last step, or their moving average: no epoch is picked by its validation score,
    which would make the out-of-fold score too good. A step waits for the device only to save or to look at the losses.
    """
    precision = Precision(arrangement, device)
    metric, steps, batch_size = METRICS[data.metric_name], len(data.train), min(recipe.batch_size, len(data.train_ids))
    loss_of = build_loss(data.train_targets, recipe).to(device)
    mix = Mixer(recipe)
    ema = ModelEmaV3(module, decay=recipe.ema_decay, use_warmup=True) if recipe.ema_decay else None
    kept = ema.module if ema else module
    optimizer, scaler = build_optimizer(module, recipe, device), precision.scaler
    targets_of = torch.from_numpy(data.train_targets).to(device)
    lr_of = partial(lr_at, steps_per_epoch=steps, recipe=recipe)

    training = Training(module, kept, optimizer, scaler)
    require_room(folder, training)
    with ranks.first_goes_first():
        checkpoints.restore(training, device)
    ranks.require_same("checkpoints", str(training.step))
    if training.step:
        say("train", f"fold {fold}: going on after step {training.step:,} of {recipe.epochs * steps:,}")
    journal = Journal(folder, fold, recipe.epochs, data.metric_name, training.history, ranks.is_first)
    if arrangement.compiled:
        module.compile()

    def save() -> None:
        require_finite(training, data.train_ids, lr_of, folder)
        if checkpoints.saved_step != training.step:
            checkpoints.save(training)

    def leave() -> None:  # between two batches of validation too, where this epoch's steps are saved first
        if stop.asked:
            save()
            stop.leave(f"fold {fold} is saved after step {checkpoints.saved_step:,} of {recipe.epochs * steps:,}")

    first_epoch = len(training.history)
    for epoch in range(first_epoch, recipe.epochs):
        set_frozen(module, recipe.is_frozen(epoch))
        if epoch in (first_epoch, recipe.unfreeze_after):
            replica = ranks.replicate(module)
        done = len(training.losses)  # steps of this epoch, where the fold was stopped in its midst
        batches = on_device(data.train.epoch(epoch, done), device)
        watched = journal.watched(batches, steps, done)
        for step, (images, rows) in enumerate(watched, start=epoch * steps + done):
            seed_step(recipe.seed, fold, step, ranks.rank)
            set_lr(optimizer, lr_of(step))
            inputs, targets = mix(normalize(images), targets_of[rows.to(device, non_blocking=True)])

            losses, logits = [], []
            parts = list(zip(inputs.chunk(arrangement.parts), targets.chunk(arrangement.parts), strict=True))
            for number, (part, part_targets) in enumerate(parts, start=1):
                with precision.autocast(), ranks.averaging(replica, now=number == len(parts)):
                    part_logits = replica(part).float()
                loss = loss_of(part_logits, part_targets) * (len(part) / batch_size)
                scaler.scale(loss * ranks.size).backward()
                losses.append(loss.detach())
                logits.append(part_logits.detach())
            if recipe.clip_grad:
                scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(module.parameters(), recipe.clip_grad)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
            if ema:
                ema.update(module, step=step)

            training.add(*ranks.whole_step(torch.stack(losses).sum(), torch.cat(logits), rows, batch_size))
            is_due = checkpoints.is_due(end_of_epoch=training.step % steps == 0)
            is_due, stopping = ranks.any(is_due, stop.asked)
            if is_due or stopping or training.step == recipe.epochs * steps:
                save()
            elif training.step % LOOK_EVERY == 0:
                require_finite(training, data.train_ids, lr_of, folder)
            if stopping:
                stop.ask(*ranks.gather(stop.reason))
                leave()

        began = time.monotonic()
        train_probs = torch.cat(training.logits).softmax(dim=1).cpu().numpy()
        train_score = metric(data.train_targets[torch.cat(training.rows)].argmax(axis=1), train_probs)
        val_probs = predict_probs([kept], normalize, Heeding(data.val, leave), [()], precision, ranks)[0]
        journal.add(
            lr=lr_of(training.step - 1),
            train_loss=float(torch.stack(training.losses).mean()),
            train_score=train_score,
            val_loss=log_loss(data.val_labels, val_probs),
            val_score=metric(data.val_labels, val_probs),
        )
        training.end_epoch()
        stop.keep_back((time.monotonic() - began) / len(val_probs) * data.to_predict)
    return kept, val_probs, journal


def main() -> None:
    args = PARSER.parse_args()
    stop = Stop(args.until)
    stop.leave(f"fold {args.fold} was not begun")
    paths = paths_of(args)
    competition = load_competition(paths)
    run, recipe = asked_run(args, competition)
    fold = parse_folds(str(args.fold), competition.folds.n)[0]
    folder = paths.fold(run, fold)

    manifest = read_manifest(paths.manifest)
    folds = read_folds(paths.folds, competition.folds.n, manifest)
    readable = readable_rows(manifest)
    table = folds.merge(readable[["image_id", "split", "position"]].query("split == 'train'"), validate="1:1")
    train_rows, val_rows = table[table["fold"] != fold], table[table["fold"] == fold]
    names = class_names(folds, competition.classes)
    wanted = identity(recipe, competition, paths, names, manifest)
    check_run(paths, run, wanted)

    with joined(args.device) as (ranks, device), owned(folder / "lock") if ranks.is_first else nullcontext():
        ranks.require_same("recipe, folds or images", fingerprint(wanted))
        if (folder / "trained.json").exists():
            say("train", f"fold {fold} of {run} is trained already; delete {shown(folder)} to train it again")
            return
        seed_step(recipe.seed, fold)
        network = build_model(recipe, len(names), recipe.pretrained)
        if recipe.freeze and not recipe.pretrained:
            say("train", "note: freeze = true keeps a backbone that has learned nothing; set pretrained")
        transforms = train_transforms(recipe, competition.symmetries, network.preprocessing)
        whole = eval_transforms(recipe, network.preprocessing)
        pixels = open_pixels(paths, readable, recipe.cache_side, "train")
        train_data = ImageDataset(
            pixels, train_rows, transforms, recipe.seed, alternates(recipe, competition.symmetries)
        )
        val_data = ImageDataset(pixels, val_rows, whole)
        chosen = Arrangement.chosen(
            recipe, device, args.threads, len(train_data), args.deterministic, ranks.size, ranks.beside
        )
        with ranks.first_goes_first():
            start_run(paths, run, recipe, wanted, network.pretrained_sha256)
            arrangement = arrange(folder / "arrangement.json", chosen, recipe, len(train_data), device, network.module)
        arrangement.set_up()
        module = arrangement.place(network.module, device)
        if recipe.sync_batchnorm:
            module = ranks.synchronized(module, device)
        normalize = Normalize(network.preprocessing, arrangement.channels_last).to(device)

        workers = choose_workers(args.workers, device, pixels.cached is not None, arrangement.threads)
        limit = 2 if args.dry_run else None
        order = EpochBatches(len(train_data), recipe.batch_size, recipe.seed, limit, ranks.share)
        ranks.require_divisible(order.batch_size)
        views = len(tta_views(competition.symmetries if recipe.tta else []))
        test_rows = int((readable["split"] == "test").sum())
        data = FoldData(
            train=train_batches(train_data, order, workers, device),
            val=val_batches(val_data, recipe, workers, device, ranks.share),
            train_ids=train_rows["image_id"].tolist(),
            train_targets=one_hot(train_rows["label"], names),
            val_labels=one_hot(val_rows["label"], names).argmax(axis=1),
            metric_name=competition.metric,
            to_predict=views * (len(table) + competition.folds.n * test_rows),
        )
        say(
            "train",
            f"fold {fold} of {run}: {recipe.model} on {len(train_rows):,} images, {len(val_rows):,} to validate; "
            f"{device}, {count_of(arrangement.threads, 'thread')}{beside()}{ranks.described(order.batch_size)}",
        )
        if ranks.is_first:
            draw_batch(folder / "augmented.png", train_data, train_rows["label"].tolist())

        checkpoints = Checkpoints(folder / "checkpoints", {**wanted, "fold": fold}, ranks.is_first)
        with stop:
            kept, val_probs, journal = train_fold(
                recipe, fold, module, normalize, data, arrangement, device, folder, checkpoints, stop, ranks
            )

        # What it says of images it knows, as many as there are to validate, and a look at those it does not know.
        known = train_rows.sample(min(len(train_rows), len(val_rows)), random_state=recipe.seed)
        known_data = val_batches(ImageDataset(pixels, known, whole), recipe, workers, device, ranks.share)
        train_probs = predict_probs([kept], normalize, known_data, [()], Precision(arrangement, device), ranks)[0]
        if not ranks.is_first:
            return
        train_score = METRICS[competition.metric](one_hot(known["label"], names).argmax(axis=1), train_probs)
        heading = f"{paths.competition}, {run}, fold {fold}"
        journal.close(heading)
        about = {"made_of": wanted, "fold": fold, "preprocessing": network.preprocessing._asdict()}
        about["pretrained_sha256"] = network.pretrained_sha256
        sha256 = save_weights(folder / "weights.safetensors", kept, about)
        draw_judged(folder, val_data, data.val_labels, val_probs, names, heading)

        last, seconds = journal.history[-1], journal.table["seconds"].sum()
        machine = {"device": str(device), "seconds": seconds, "beside": folds_beside(), **arrangement.as_dict()}
        done = {"fold": fold, "last_epoch": last, "train_score": train_score, "weights_sha256": sha256}
        write_json(folder / "trained.json", {**done, "made_of": wanted, **machine, **provenance()})
        checkpoints.discard()
    say(
        "train",
        f"fold {fold}: {competition.metric} {last['val_score']:.4f}, on images it was trained on {train_score:.4f}, in "
        f"{duration(seconds)} -> {shown(folder)}{next_step('submit', args, f' FOLDS={fold}')}",
    )


if __name__ == "__main__":
    run_stage(main)
