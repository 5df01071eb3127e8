"""Two and three gloo ranks on the CPU: what torchrun starts on GPUs, through the same lines."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch import nn

from pipeline.learner.arrangement import Compute, choose_arrangement
from pipeline.learner.inference import Model, predict
from pipeline.learner.inputs import Normalize
from pipeline.learner.memory import Room
from pipeline.learner.ranks import Ranks, device_of, join_ranks, leave_group
from pipeline.learner.resident import val_batches
from pipeline.pixels.augment import eval_transforms
from pipeline.pixels.cache import open_pixels, readable_rows
from pipeline.pixels.dataset import EpochBatches, ImageDataset
from pipeline.pixels.preprocessing import IMAGENET
from pipeline.records.command_line import Machine
from pipeline.records.paths import Paths
from pipeline.records.recipe import load_recipe
from pipeline.records.tables import read_manifest
from pipeline.system import places
from pipeline.system.console import run_stage
from pipeline.system.errors import FoldwiseError
from pipeline.system.signals import STOPPED
from pipeline.tasks.classification import Classification
from tests.conftest import Stage

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["pipeline.train", "pipeline.predict"])  # imported once for all of them


#: On the CPU, also where there is a GPU: several ranks want a GPU each.
FOLD_0 = ["--fold", "0", "--device", "cpu", "--threads", "2", "--set"]


#: BatchNorm, mixing, dropout, a moving average, and images that grow.
ALL = ["model_args.dropout=0.2", "mixup=0.4", "ema_decay=0.9", "augment.affine.degrees=5", "start_scale=0.5"]


def be_a_rank(root: Path, place: dict[str, str], work: Callable, arguments: tuple) -> None:
    """What a rank does in its process, told its place as torchrun tells it."""
    os.environ.update(place)
    places.ROOT = root
    torch.set_num_threads(1)
    work(*arguments)


def start_ranks(root: Path, size: int, work: Callable, *arguments: object) -> list:
    """Starts ``work(*arguments)`` in as many processes."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": str(size), "LOCAL_WORLD_SIZE": str(size), "MASTER_ADDR": "localhost"}
    shared |= {"MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "test"}
    places = [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(size)]
    processes = [PROCESSES.Process(target=be_a_rank, args=(root, place, work, arguments)) for place in places]
    for process in processes:
        process.start()
    return processes


def run_ranks(root: Path, size: int, work: Callable, *arguments: object) -> list[int | None]:
    """Their exit statuses."""
    processes = start_ranks(root, size, work, *arguments)
    for process in processes:
        process.join(120)
    return [process.exitcode for process in processes]


def as_stage(name: str, *arguments: str) -> None:
    """Runs a stage as its command line would."""
    sys.argv = [f"pipeline.{name}", "--competition", "shapes", *arguments]
    run_stage(__import__(f"pipeline.{name}", fromlist=["main"]).main)


def weights_of(paths: Paths, run: str) -> dict[str, torch.Tensor]:
    return load_file(paths.fold(run, 0) / "weights.safetensors")


@pytest.mark.parametrize(
    ("size", "more"),
    [(2, ["epochs=1"]), (3, ["epochs=1", "accumulate=4"]), (2, ["freeze=true", "unfreeze_after=1", "epochs=2"])],
)
def test_ranks_learn_what_one_process_learns(split: Paths, stage: Stage, size: int, more: list[str]) -> None:
    """Three steps of 13 images an epoch, which no number of ranks divides; in 4 parts 5 images are 3, and 4 are 4."""
    settings = ["model=lenet", "model_args={}", "batch_size=13", *more]
    stage("train", *FOLD_0, *settings)
    log, alone = pd.read_csv(split.fold(folder_of(split), 0) / "log.csv"), weights_of(split, folder_of(split))
    run = split.run(folder_of(split))
    run.rename(run.with_name("alone"))
    assert run_ranks(places.ROOT, size, as_stage, "train", *FOLD_0, *settings) == [0] * size
    together = weights_of(split, run.name)
    assert max(float((together[name] - alone[name]).abs().max()) for name in alone) < 1e-5
    columns = ["train_loss", "train_score", "val_loss", "val_score"]
    assert np.allclose(pd.read_csv(run / "fold0" / "log.csv")[columns], log[columns], atol=1e-5)
    assert json.loads((run / "fold0" / "trained.json").read_text())["ranks"] == size


def test_a_rank_does_not_wait_for_itself_when_its_group_ends() -> None:
    """torch frees a group with Python's lock held and waits for its threads, which may need it: one in five rank
    processes of torch 2.6 never ended. A group that is left must not be freed then."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    group = dist.group.WORLD
    leave_group()
    assert not dist.is_initialized()
    assert sys.getrefcount(group) == 3  # of this function, of the argument here, and of what is kept


def folder_of(paths: Paths) -> str:
    """The one run that there is."""
    return next(path.name for path in paths.runs.iterdir() if path.name.startswith("tiny"))


def test_every_picture_is_drawn_for_one_rank() -> None:
    whole = [[key for key in batch] for batch in EpochBatches(50, 8, seed=3)]
    parts = [list(EpochBatches(50, 8, seed=3, share=(rank, 3))) for rank in range(3)]
    assert len(parts[0]) == len(parts[1]) == len(parts[2]) == len(whole) == 6
    for number, batch in enumerate(whole):
        assert [parts[place % 3][number][place // 3] for place in range(8)] == batch
    in_order = [list(EpochBatches(50, 8, share=(rank, 3))) for rank in range(3)]
    assert [in_order[number % 3][number // 3] for number in range(7)] == list(EpochBatches(50, 8))
    assert [len(EpochBatches(50, 8, share=(rank, 3))) for rank in range(3)] == [3, 2, 2]


def predict_seven(paths: Paths, batch_size: int, out: Path) -> None:
    """Probabilities of seven pictures by a network with BatchNorm, whose buffers differ from rank to rank."""
    torch.manual_seed(0)
    with join_ranks("cpu") as (ranks, device):
        recipe = load_recipe("tiny", [f"batch_size={batch_size}"])
        rows = readable_rows(read_manifest(paths.manifest))
        dataset = ImageDataset(open_pixels(paths, rows, 24, "train"), rows[:7], eval_transforms(recipe, IMAGENET))
        module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        nn.init.constant_(module[1].running_mean, ranks.rank)  # type: ignore[arg-type]
        order = EpochBatches(7, recipe.batch_size, share=ranks.share)
        loader = val_batches(dataset, order, 0, device, Room(0))
        compute = Compute(device, choose_arrangement(recipe, device, Machine(threads=1), 7), ranks)
        model = Model(module, Classification(["a", "b", "c", "d"]))
        probs = predict([model], Normalize(IMAGENET), loader, [()], compute)[0]
        np.save(out / f"{batch_size}-{ranks.size}-{ranks.rank}.npy", probs)


@pytest.mark.parametrize("batch_size", [2, 16])
def test_seven_pictures_are_seven_predictions(split: Paths, tmp_path: Path, batch_size: int) -> None:
    """The same bits from one process and from two, also where a rank has no batch."""
    predict_seven(split, batch_size, tmp_path)
    assert run_ranks(places.ROOT, 2, predict_seven, split, batch_size, tmp_path) == [0, 0]
    alone, first, second = (np.load(tmp_path / f"{batch_size}-{place}.npy") for place in ("1-0", "2-0", "2-1"))
    assert alone.shape == (7, 4)
    assert np.array_equal(alone, first) and np.array_equal(alone, second)


def test_predictions_of_two_ranks_are_those_of_one(split: Paths, stage: Stage) -> None:
    stage("train", *FOLD_0, "epochs=1", "batch_size=4")
    later = ["--folds", "0", "--device", "cpu", "--threads", "1", "--set", "epochs=1", "batch_size=4"]
    folder = split.fold("tiny~batch_size=4~epochs=1", 0)
    stage("predict", *later)
    alone = {kind: (folder / kind).read_bytes() for kind in ("oof.npz", "test.npz")}
    (folder / "predicted.json").unlink()
    assert run_ranks(places.ROOT, 2, as_stage, "predict", *later) == [0, 0]
    assert {kind: (folder / kind).read_bytes() for kind in alone} == alone
    assert (folder / "predicted.json").exists()


def test_the_same_bits_whatever_ends_a_rank(split: Paths, tmp_path: Path) -> None:
    """kill -9 of one of two ranks ends the other with an error, and a signal to one stops both. The same command goes
    on to the weights of an undisturbed run."""
    root, settings = places.ROOT, [*FOLD_0, "epochs=12", *ALL]
    assert run_ranks(root, 2, as_stage, "train", *settings) == [0, 0]
    run = split.run(folder_of(split))
    undisturbed = weights_of(split, run.name)
    run.rename(run.with_name("undisturbed"))

    for victim, number in ((1, signal.SIGKILL), (1, signal.SIGTERM), (0, signal.SIGKILL)):
        seen = set((run / "fold0" / "checkpoints").glob("*/manifest.json"))
        processes = start_ranks(root, 2, as_stage, "train", *settings)
        end = time.monotonic() + 60
        while not set((run / "fold0" / "checkpoints").glob("*/manifest.json")) - seen:
            assert time.monotonic() < end and all(process.is_alive() for process in processes)
            time.sleep(0.002)
        os.kill(processes[victim].pid, number)
        began = time.monotonic()
        processes[1 - victim].join(60)
        processes[victim].join(60)
        assert processes[1 - victim].exitcode in (1, STOPPED) and time.monotonic() - began < 60
        assert processes[victim].exitcode == (-number if number == signal.SIGKILL else STOPPED)
        assert not (run / "fold0" / "trained.json").exists()

    assert run_ranks(root, 2, as_stage, "train", *settings) == [0, 0]
    again = weights_of(split, run.name)
    assert all(torch.equal(again[name], undisturbed[name]) for name in undisturbed)
    assert list((run / "fold0").glob("events*")) and not (run / "fold0" / "checkpoints").exists()


def test_ranks_need_an_image_and_a_gpu_each(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FoldwiseError, match="a batch of 3 images cannot be divided among 4 processes"):
        Ranks(0, 4, 4).require_divisible(3)
    with pytest.raises(FoldwiseError, match="DEVICE=cpu:0 is one device, but there are 4 processes"):
        device_of("cpu:0", Ranks(0, 4, 4), 0)
    with pytest.raises(FoldwiseError, match="sync_batchnorm = true needs GPUs"):
        Ranks(0, 4, 4).synchronized(nn.BatchNorm2d(3), torch.device("cpu"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(FoldwiseError, match="4 GPUs were asked for and this machine has 2; type GPUS=2"):
        device_of("auto", Ranks(0, 4, 4), 0)
