"""Stage 4: train one fold.

    make train FOLD=0
    make train COMPETITION=dogs-vs-cats RECIPE=resnet18 FOLD=0 SET="epochs=2 lr=1e-3"
    make train FOLD=all
    python -m pipeline.train --competition dogs-vs-cats --recipe resnet18 --fold 0
    torchrun --nproc-per-node 4 -m pipeline.train --competition dogs-vs-cats --recipe resnet18 --fold 0

Reads   manifest.csv, task.json, folds.csv, the images, and the recipe
Writes  runs/<run>/fold<k>/: arrangement.json; checkpoints/ (at the end of epochs, every five minutes within an epoch,
        and when stopped; the same command continues at that step); log.csv; TensorBoard events; pictures
        (augmented.png, curves.png, validation.png, and confusion.png, tags.png or scatter.png); weights.safetensors;
        and, last, trained.json. FOLD=all, without validation rows, has runs/<run>/all/; a further seed,
        runs/<run>/seed<k>/
"""

from __future__ import annotations

from pipeline.records.command_line import parser_for
from pipeline.system.console import answer_early

PARSER = parser_for(__doc__, "run", "fold", "device")
if __name__ == "__main__":  # before the imports that take seconds
    answer_early(PARSER, "train")

import time
from contextlib import nullcontext
from dataclasses import replace
from functools import partial, reduce
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import nn

from pipeline.learner.arrangement import Compute, computing, made_easier, settle_arrangement
from pipeline.learner.averages import average_of
from pipeline.learner.blocks import frozen_in
from pipeline.learner.checkpoint import Checkpoints, require_disk_space, save_weights
from pipeline.learner.device import seed_torch
from pipeline.learner.feature_head import HeadLog, train_head
from pipeline.learner.fold_data import FoldData, load_data
from pipeline.learner.inference import Model, predict
from pipeline.learner.inputs import Mixer
from pipeline.learner.models import build_model
from pipeline.learner.optimizer import build_optimizer, lr_at, set_lr
from pipeline.learner.resident import on_device
from pipeline.learner.saving import FoldStore, Saver
from pipeline.learner.training import Training, rows_to_score
from pipeline.learner.training_log import TrainingLog
from pipeline.learner.training_pictures import draw_augmented, draw_validation
from pipeline.learner.transfer import set_frozen
from pipeline.pixels.dataset import Interruptible
from pipeline.records.job import Job, job_of
from pipeline.records.names import fold_name, heading_of
from pipeline.records.runs import open_run, start_run
from pipeline.records.tables import read_csv
from pipeline.records.task import metric_sha256
from pipeline.system.console import duration, folds_at_once, run_stage, say, side_by_side_note
from pipeline.system.errors import MachineError, count_of
from pipeline.system.files import fingerprint, write_json
from pipeline.system.locks import owned
from pipeline.system.places import shown
from pipeline.system.processes import has_ranks
from pipeline.system.provenance import provenance
from pipeline.system.signals import Stop


class Trained(NamedTuple):
    """What the training of a fold gives.

    module: the module to keep, with the weights of the last step or their moving average
    predictions: (M, C), its predictions of the validation rows
    log: the log of all epochs
    facts: what trained.json also records: the train score and, for a head on features, its penalty
    """

    module: nn.Module
    predictions: np.ndarray
    log: TrainingLog | HeadLog
    facts: dict[str, Any] = {}


def train_fold(
    job: Job, module: nn.Module, normalize: nn.Module, data: FoldData, compute: Compute, store: FoldStore
) -> Trained:
    """Trains from the newest checkpoint, or from the start, to the last epoch.

    The weights are not those of the epoch with the best validation score, since such a choice would make the
    out-of-fold score too good. A step waits for the device only to save or to check the losses.
    """
    recipe, metric, task = job.recipe, data.metric, data.task
    ranks, precision = compute.ranks, compute.precision
    steps, batch_size = len(data.train), min(recipe.batch_size, len(data.train_rows))
    parts = compute.arrangement.parts
    loss_of, mix = task.loss(data.train_targets, recipe.objective).to(compute.device), Mixer(recipe)
    targets_of = torch.from_numpy(data.train_targets).to(compute.device)
    lr_of = partial(lr_at, steps_per_epoch=steps, recipe=recipe)
    average = average_of(module, recipe, steps)
    optimizer, scaler = build_optimizer(module, recipe, compute.device), precision.scaler

    scored = rows_to_score(len(data.train_targets), len(task.target_names), recipe.seed)
    training = Training(module, average.module if average else module, optimizer, scaler, scored)
    require_disk_space(store.folder, training)
    with ranks.first_rank_first():
        store.checkpoints.restore(training, compute.device)
    ranks.require_same("checkpoints", str(training.step))
    if training.step:
        say("train", f"{fold_name(store.fold)}: continuing after step {training.step:,} of {recipe.epochs * steps:,}")
    log = TrainingLog(store, recipe.epochs, metric.name, training.history, ranks.is_first)
    saver = Saver(training, store, ranks, lr_of, recipe.epochs * steps)

    first_epoch = len(training.history)
    for epoch in range(first_epoch, recipe.epochs):
        set_frozen(module, frozen_in(module, recipe, epoch), recipe.freeze_statistics)
        if epoch in (first_epoch, recipe.unfreeze_after):
            replica = compute.replica(module, recipe)
        done = len(training.losses)  # steps of this epoch before it was interrupted
        batches = on_device(data.train.epoch(epoch, done), compute.device)
        for step, (images, rows) in enumerate(log.with_progress(batches, steps, done), start=epoch * steps + done):
            seed_torch(compute.device, recipe.seed, store.fold, step, ranks.rank)
            set_lr(optimizer, lr_of(step))
            inputs, targets = mix(normalize(images), targets_of[rows.to(compute.device, non_blocking=True)])

            # Forward and backward, in parts if the batch does not fit the memory.
            losses, logits = [], []
            pieces = list(zip(inputs.chunk(parts), targets.chunk(parts), strict=True))
            for number, (piece, piece_targets) in enumerate(pieces, start=1):
                with precision.autocast(), ranks.sync_gradients(replica, now=number == len(pieces)):
                    piece_logits = replica(piece).float()
                loss = loss_of(piece_logits, piece_targets) * (len(piece) / batch_size)
                scaler.scale(loss * ranks.size).backward()
                losses.append(loss.detach())
                logits.append(piece_logits.detach())

            # Update the weights, and their moving average.
            if recipe.clip_grad:
                scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(module.parameters(), recipe.clip_grad)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
            if average:
                average.update(module, step=step)

            # Save if a checkpoint is due; if asked to stop, save and stop.
            training.add(*ranks.gather_step(reduce(torch.add, losses), torch.cat(logits), rows, batch_size))
            saver.after_step(end_of_epoch=training.step % steps == 0)

        # Validate; this can be interrupted between two batches.
        began = time.monotonic()
        train_logits, train_rows = training.scored_logits()
        train_predictions = task.predictions(train_logits).cpu().numpy()
        val = Interruptible(data.val, saver.stop_if_asked)
        predictions = predict([Model(training.kept, task)], normalize, val, [()], compute)[0]
        log.add(
            lr=lr_of(training.step - 1),
            train_loss=float(torch.stack(training.losses).mean()),
            train_score=task.score(metric, data.train_targets[train_rows], train_predictions),
            **data.val_scores(predictions),
        )
        training.end_epoch()
        store.stop.reserve((time.monotonic() - began) / max(1, len(predictions)) * data.to_predict)
    return Trained(training.kept, predictions, log)


def finish(
    job: Job, store: FoldStore, data: FoldData, trained: Trained, about: dict[str, Any], facts: dict[str, Any]
) -> None:
    """Draws the pictures, writes the weights and, last, trained.json; then deletes the checkpoints.

    about: metadata of the weights: what they were made from, and their preprocessing
    facts: the metric's file, and how the fold was computed
    """
    log, fold, folder = trained.log, store.fold, store.folder
    facts = {"metric": data.metric.name, **facts, **trained.facts}
    heading = heading_of(job.paths.competition, job.run.name, fold)
    log.close(heading)
    if len(data.val_rows):
        draw_validation(folder, data, trained.predictions, heading)
    sha256 = save_weights(folder / "weights.safetensors", trained.module, about)
    last, seconds = log.history[-1], log.table["seconds"].sum()
    done = {"fold": fold, "last_epoch": last, "weights_sha256": sha256, "made_of": about["made_of"], "seconds": seconds}
    write_json(folder / "trained.json", {**done, **facts, **provenance()})
    store.checkpoints.discard()
    on_val = f"{last['val_score']:.4f} on validation images, " if "val_score" in last else ""
    say(
        "train",
        f"{fold_name(fold)}: {data.metric.name} {on_val}{facts['train_score']:.4f} on images it was trained on, in "
        f"{duration(seconds)} -> {shown(folder)}{job.call.next_step('submit')}",
    )


def train(job: Job, fold: int, stop: Stop) -> None:
    """Trains one fold and writes its files, trained.json last; does nothing if the fold is already trained."""
    recipe, folder = job.recipe, job.fold_folder(fold)
    tables = open_run(job)
    num_images = int((tables.folds["fold"] != fold).sum())
    with computing(job, num_images) as compute, owned(folder / "lock") if compute.ranks.is_first else nullcontext():
        device, ranks = compute.device, compute.ranks
        ranks.require_same("recipe, folds or images", fingerprint(tables.identity))
        if (folder / "trained.json").exists():
            done = f"{fold_name(fold)} of {job.run.name} is trained already"
            say("train", f"{done}; delete {shown(folder)} to train it again")
            return
        seed_torch(device, recipe.seed, fold)
        network = build_model(recipe, len(tables.task.target_names), recipe.pretrained)
        if network.weights:
            say("train", f"{fold_name(fold)}: {network.described}")
            if not network.weights.is_open:
                say("train", "note: check that the licence of these weights allows your use")
        if recipe.freeze and not recipe.pretrained:
            say("train", "note: freeze = true freezes a backbone with random weights; set pretrained too")
        with ranks.first_rank_first():
            start_run(job, tables.identity, network.weights.as_dict() if network.weights else None)
            settled = settle_arrangement(
                folder / "arrangement.json", compute.arrangement, recipe, num_images, device, network.module
            )
        compute = replace(compute, arrangement=settled)
        settled.set_up()
        data = load_data(job, tables, fold, network, compute)
        module, normalize = compute.place(network.module), compute.normalize(network.preprocessing)
        if recipe.sync_batchnorm:
            module = ranks.synchronized(module, device)
        share = side_by_side_note() + ranks.description(min(recipe.batch_size, num_images))
        say(
            "train",
            f"{fold_name(fold)} of {job.run.name}: {recipe.model} on {num_images:,} images, {len(data.val_rows):,} to "
            f"validate; {device}, {count_of(settled.threads, 'thread')}{share}",
        )
        if ranks.is_first and (recipe.kind == "network" or recipe.augment):
            draw_augmented(folder, data, heading_of(job.paths.competition, job.run.name, fold))

        checkpoints = Checkpoints(folder / "checkpoints", {**tables.identity, "fold": fold}, ranks.is_first)
        store = FoldStore(fold, folder, checkpoints, stop, data.train_rows["image_id"].tolist())
        about = {"made_of": tables.identity, "fold": fold, "preprocessing": network.preprocessing._asdict()}
        about["pretrained"] = network.weights.as_dict() if network.weights else None
        about |= {"task": data.task.fitted_to} if data.task.fitted_to else {}
        if recipe.kind == "features":
            head = train_head(job, tables, data, network, compute, store)
            trained = Trained(network.module, head.predictions, head.log, head.facts)
        else:
            if recipe.head_first and not any(store.checkpoints.folder.glob("*")):
                train_head(job, tables, data, network, compute, store)
            with stop:
                trained = train_fold(job, module, normalize, data, compute, store)
            sample = predict([Model(trained.module, data.task)], normalize, data.train_sample, [()], compute)[0]
            train_score = data.task.score(data.metric, data.train_sample_targets, sample)
            trained = trained._replace(facts={"train_score": train_score})
        if ranks.is_first:
            machine = {"device": str(device), "beside": folds_at_once(), **settled.as_dict()}
            sha256 = metric_sha256(job.competition, job.paths)
            finish(job, store, data, trained, about, {"metric_sha256": sha256, **machine})


def train_folds(job: Job) -> None:
    """Trains the folds of the job, one after another, except those that are already trained."""
    stop = Stop(job.machine.until)
    for fold in job.folds:
        stop.leave(f"{fold_name(fold)} was not started")
        while not could_train(job, fold, stop):
            torch.cuda.empty_cache()


def could_train(job: Job, fold: int, stop: Stop) -> bool:
    """Trains one fold; False if the memory of the GPU or the compiler failed, and the next attempt makes it easier."""
    began = time.time()
    try:
        train(job, fold, stop)
    except RuntimeError as error:
        change = made_easier(job.fold_folder(fold) / "arrangement.json", error, job.recipe.batch_size, began)
        if not change:
            raise
        if has_ranks():  # the other ranks cannot begin again
            raise MachineError(f"{change}; the same command continues") from error
        say("train", f"note: {change}")
        return False
    return True


def run(job: Job) -> pd.DataFrame:
    """Trains the folds of the job, except those that are already trained; returns the log of all of them.

    The log has a row for each epoch: epoch, lr, train_loss, train_score, val_loss, val_score, seconds, fold. A training
    on all rows has no val_loss and val_score.
    """
    train_folds(job)
    logs = [read_csv(job.fold_folder(fold) / "log.csv").astype(float) for fold in job.folds]
    return pd.concat([log.assign(fold=fold) for fold, log in zip(job.folds, logs, strict=True)], ignore_index=True)


def main(argv: list[str] | None = None) -> None:
    train_folds(job_of(PARSER.parse_args(argv)))


if __name__ == "__main__":
    run_stage(main)
