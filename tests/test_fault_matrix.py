"""The fault matrix: what goes wrong in the field, row by row, and what must then be true.

Each test is named after its row. Rows about many GPUs and many machines (33 to 35) are tested where these are:
learner/test_ranks.py (kill -9 of a rank), tools/test_cluster.py (a node that is lost, a driver that is lost).
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import multiprocessing
import os
import pickle
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from torch.utils.data import get_worker_info

import pipeline.train
from pipeline.learner import arrangement as memory
from pipeline.learner import checkpoint, networks
from pipeline.learner.arrangement import parts_that_fit
from pipeline.learner.checkpoint import Checkpoints, Training
from pipeline.learner.divergence import require_finite
from pipeline.pixels import workers as workers_module
from pipeline.pixels.augment import eval_transforms, train_transforms
from pipeline.pixels.cache import Pixels, open_pixels, readable_rows
from pipeline.pixels.dataset import EpochBatches, ImageDataset, Loader
from pipeline.pixels.decode import decode
from pipeline.pixels.preprocessing import IMAGENET
from pipeline.records.paths import Paths
from pipeline.records.recipe import load_recipe
from pipeline.records.submission import Submission, check_sample, format_submission
from pipeline.records.tables import read_manifest
from pipeline.records.task import Classification
from pipeline.system import places, signals
from pipeline.system.errors import FoldwiseError
from pipeline.system.files import atomic_path, fingerprint, read_record, sweep, temporary_beside, write_record
from pipeline.system.locks import living_owner, owned
from pipeline.system.processes import HOST
from tests.conftest import Stage, run, start_stage, wait_for, write_image

Failure = Callable[..., str]
CHECKOUT = Path(pipeline.train.__file__).parents[1]
SETTINGS = ["epochs=3", "mixup=0.4", "ema_decay=0.9", "augment.affine.degrees=5", "start_scale=0.5"]
FOLD_0 = ["--fold", "0", "--threads", "1", "--set"]
#: Rows of the matrix whose tests lie elsewhere.
OF_MANY_MACHINES = {33, 34, 35}


def test_every_row_has_a_test() -> None:
    named = {int(number) for number in re.findall(r"\ndef test_row_(\d+)_", Path(__file__).read_text())}
    assert named == set(range(1, 41)) - OF_MANY_MACHINES


# --- helpers ----------------------------------------------------------------------------------------------------


def tiny_training(seed: int = 0) -> Training:
    """A module with an optimizer that has moments, after one step."""
    torch.manual_seed(seed)
    module = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
    training = Training(
        module,
        module,
        torch.optim.AdamW(module.parameters()),
        torch.amp.GradScaler("cpu", enabled=False),
        torch.ones(6, dtype=torch.bool),
    )
    loss = module(torch.randn(6, 4)).square().mean()
    loss.backward()
    training.optimizer.step()
    training.add(loss.detach(), torch.randn(6, 2), torch.arange(6))
    return training


def weights_of(training: Training) -> bytes:
    """All weights as bytes."""
    return b"".join(tensor.numpy().tobytes() for tensor in training.module.state_dict().values())


def saved_twice(folder: Path) -> tuple[Checkpoints, bytes, bytes]:
    """Checkpoints of steps 1 and 2, and the weights of each."""
    checkpoints, training = Checkpoints(folder, {"lr": 1}), tiny_training()
    checkpoints.save(training)
    first = weights_of(training)
    training.optimizer.step()
    training.add(torch.tensor(0.5), torch.randn(6, 2), torch.arange(6))
    checkpoints.save(training)
    return checkpoints, first, weights_of(training)


def restored(folder: Path, **made_of: Any) -> Training:
    """What a new process goes on from."""
    training = tiny_training(seed=9)
    training.step, training.losses = 0, []
    Checkpoints(folder, made_of or {"lr": 1}).restore(training, torch.device("cpu"))
    return training


class Trained(NamedTuple):
    """What a fold ended with: the sha256 of its weights, and its log without the times."""

    weights: str
    log: str


def trained(paths: Paths, fold: int = 0) -> Trained:
    """The result of the one run there is."""
    folder = next(paths.runs.glob(f"*/fold{fold}"))
    log = pd.read_csv(folder / "log.csv").drop(columns="seconds").to_csv()
    return Trained(json.loads((folder / "trained.json").read_text())["weights_sha256"], log)


def forget(paths: Paths) -> None:
    """As if nothing had been trained."""
    shutil.rmtree(paths.runs)


@pytest.fixture(scope="session")
def undisturbed(split_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Fold 0 trained in one go, elsewhere, once for all tests."""
    base = tmp_path_factory.mktemp("undisturbed")
    shutil.copytree(split_once, base, dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(places, "ROOT", base)
        run(patched, "train", *FOLD_0, *SETTINGS)
        return trained(Paths("shapes"))


# --- checkpoints ------------------------------------------------------------------------------------------------

SAVER = """
import os, random, signal, sys, time
from pathlib import Path
import torch
from pipeline.learner.checkpoint import Checkpoints
from tests.test_fault_matrix import restored, tiny_training

torch.set_num_threads(1)
folder, rng = Path(sys.argv[1]), random.Random(0)
for kill in range(12):
    child = os.fork()
    if child == 0:
        training = restored(folder)
        checkpoints = Checkpoints(folder, {"lr": 1})
        while True:
            training.add(torch.tensor(0.5), torch.randn(6, 2), torch.arange(6))
            for parameter in training.module.parameters():
                parameter.data.fill_(training.step)
            checkpoints.save(training)
            (folder.parent / "said").write_text(str(training.step))
    time.sleep(rng.uniform(0.05, 0.3))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    training = restored(folder)
    said = int((folder.parent / "said").read_text() or 0) if (folder.parent / "said").exists() else 0
    assert training.step >= said, (training.step, said)
    assert not training.step or all((p == training.step).all() for p in training.module.parameters())
print(training.step)
"""


def test_row_01_sigkill_while_saving(tmp_path: Path) -> None:
    """Twelve kills of a process that saves all the time: what it had told to be saved is there, and whole."""
    done = subprocess.run(
        [sys.executable, "-c", SAVER, tmp_path / "checkpoints"], cwd=CHECKOUT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.split()[-1]) > 12 and "refused" not in done.stdout


def test_row_02_an_exception_inside_saving(tmp_path: Path) -> None:
    class Raises:
        def __reduce__(self) -> str:
            raise RuntimeError("while pickling")

    checkpoints, _, second = saved_twice(tmp_path)
    training = tiny_training()
    training.step, training.history = 3, [{"loss": Raises()}]
    with pytest.raises(RuntimeError, match="while pickling"):
        checkpoints.save(training)
    assert weights_of(restored(tmp_path)) == second
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half of the n")
        raise RuntimeError
    assert path.read_text() == "old" and not list(tmp_path.glob(".*"))


def test_row_03_stale_temporary_files(shapes: Paths, stage: Stage) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    home = shapes.home
    stale = home / f".manifest.tmp-{HOST}-{dead.pid}-.csv"
    folder = home / f".images.tmp-{HOST}-{dead.pid}-1"
    folder.mkdir()
    again = home / f".x.tmp-{HOST}-{os.getpid()}-1.csv"  # a dead one whose number lives again
    alive, elsewhere, foreign = temporary_beside(home / "x.csv"), home / ".x.tmp-other-1-1.csv", home / ".mine.tmp"
    for path in (stale, again, folder / "a.png", alive, elsewhere, foreign):
        path.touch()
    stage("manifest")
    assert not stale.exists() and not folder.exists() and not again.exists()
    assert alive.exists() and elsewhere.exists() and foreign.exists()
    os.utime(elsewhere, (0, 0))
    sweep([home])
    assert not elsewhere.exists()


def test_row_04_a_full_disk_while_saving(
    split: Paths,
    stage: Stage,
    undisturbed: Trained,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The older checkpoint stays, the training goes on and ends as if nothing had been."""
    opened = []

    class FullAtTimes(io.FileIO):
        """Refuses one write into the weights of a checkpoint, and one into what torch writes of the next."""

        def __init__(self, path: Path, mode: str) -> None:
            super().__init__(path, mode)
            opened.append(path)
            self.is_full = len(opened) in (2, 3)

        def write(self, content: Any) -> int:
            if self.is_full:
                self.is_full = False
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(content)

    monkeypatch.setattr(checkpoint.io, "FileIO", FullAtTimes)
    monkeypatch.setattr(checkpoint, "SHARE", 1e9)  # one after every epoch
    stage("train", *FOLD_0, *SETTINGS)
    assert capsys.readouterr().out.count("no room to save step") == 2
    assert trained(split) == undisturbed


def test_row_05_a_flipped_bit_in_a_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("module.safetensors", "trainer.pt", "manifest.json"):
        folder = tmp_path / name
        _, first, _ = saved_twice(folder)
        newest = folder / "00000002" / name
        content = bytearray(newest.read_bytes())
        content[len(content) // 2] ^= 4
        newest.write_bytes(content)
        training = restored(folder)
        assert weights_of(training) == first and training.step == 1
        said = capsys.readouterr().out
        assert "00000002 is refused" in said and not newest.exists()


@pytest.mark.parametrize("name", ["module.safetensors", "trainer.pt", "manifest.json"])
def test_row_06_a_truncated_or_empty_checkpoint(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for tenth in range(10):
        folder = tmp_path / str(tenth)
        _, first, _ = saved_twice(folder)
        newest = folder / "00000002" / name
        content = newest.read_bytes()
        newest.write_bytes(content[: len(content) * tenth // 10])
        assert weights_of(restored(folder)) == first
        assert "is refused" in capsys.readouterr().out
    only = tmp_path / "only"
    Checkpoints(only, {"lr": 1}).save(tiny_training())
    (only / "00000001" / name).unlink()
    assert restored(only).step == 0  # from the start


def test_row_07_a_checkpoint_of_other_things(
    split: Paths, stage: Stage, failure: Failure, edit: Callable[[str, str], None], tmp_path: Path
) -> None:
    saved_twice(tmp_path / "checkpoints")
    with pytest.raises(FoldwiseError, match="lr was 1 and is now 2"):
        restored(tmp_path / "checkpoints", lr=2)
    stage("train", "--fold", "0")
    record = split.run("tiny") / "run.json"
    before = record.read_text()
    record.write_text(before.replace('"seed": 0', '"seed": 1'))
    assert "run.json is damaged (it has changed since it was written)" in failure("train", "--fold", "1")
    write_record(record, {"made_of": {**json.loads(before)["made_of"], "seed": 1}})
    assert "seed was 1 and is now 0" in failure("train", "--fold", "1")
    record.write_text(before)
    edit('metric  = "accuracy"', 'metric = "accuracy"\nclasses = ["square", "circle"]')
    assert "class_names was ['circle', 'square'] and is now ['square', 'circle']" in failure("train", "--fold", "1")
    edit('\nclasses = ["square", "circle"]', "")
    folds = split.folds.read_text()
    split.folds.write_text(folds.replace(",0\n", ",9\n").replace(",1\n", ",0\n").replace(",9\n", ",1\n"))
    assert "folds_sha256 differs" in failure("train", "--fold", "1")


class Malicious:
    """An object that runs a command when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.mark}",)


def test_row_08_a_malicious_pickle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the sha256 that belongs to it, and torch told to trust everything."""
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    _, first, _ = saved_twice(tmp_path / "checkpoints")
    place, mark = tmp_path / "checkpoints" / "00000002", tmp_path / "executed"
    torch.save({"step": Malicious(mark)}, place / "trainer.pt", pickle_module=pickle)
    manifest = read_record(place / "manifest.json")
    manifest["files"]["trainer.pt"] = fingerprint(place / "trainer.pt")
    write_record(place / "manifest.json", manifest)
    assert weights_of(restored(tmp_path / "checkpoints")) == first
    assert not mark.exists()


# --- going on ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["step 1", "step 4", "end of epoch", "validation", "last validation"])
def test_row_09_a_stop_in_mid_epoch(
    split: Paths, stage: Stage, undisturbed: Trained, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """A real signal in the middle of a step or of validation; the same command then ends with the same weights.
    (A fold has 40 images and batches of 16: two steps an epoch, three epochs.)"""
    at = {"step 1": 1, "step 4": 3, "end of epoch": 4, "validation": 2, "last validation": 3}[where]
    name = "predict" if "validation" in where else "set_lr"
    function, calls = getattr(pipeline.train, name), []

    def interrupted(*args: Any) -> Any:
        calls.append(1)
        if len(calls) == at:
            os.kill(os.getpid(), signal.SIGTERM)
        return function(*args)

    monkeypatch.setattr(pipeline.train, name, interrupted)
    with pytest.raises(SystemExit) as stopped:
        stage("train", *FOLD_0, *SETTINGS)
    assert stopped.value.code == 75
    folder = next(split.runs.glob("*/fold0"))
    assert not (folder / "trained.json").exists() and living_owner(folder / "lock") is None
    saved = {"step 1": 1, "step 4": 3, "end of epoch": 4, "validation": 4, "last validation": 6}[where]
    assert max(int(place.parent.name) for place in folder.glob("checkpoints/*/manifest.json")) == saved
    torch.manual_seed(99)  # whatever happened to torch's generator in between
    # It keeps to the thread that it was begun with.
    stage("train", "--fold", "0", "--threads", "2", "--set", *SETTINGS)
    assert trained(split) == undisturbed


def test_row_10_another_number_of_workers(split: Paths, stage: Stage, undisturbed: Trained) -> None:
    """In mid-epoch, too: begun without loader processes, gone on with two."""
    stage("train", *FOLD_0, *SETTINGS, "--workers", "2")
    assert trained(split) == undisturbed
    forget(split)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(
            signals.Stop, "asked", property(lambda stop: bool(stop.note(15, None) if not stop.reason else 1))
        )
        with pytest.raises(SystemExit):
            stage("train", *FOLD_0, *SETTINGS)
    stage("train", *FOLD_0, *SETTINGS, "--workers", "2")
    assert trained(split) == undisturbed


def test_row_11_augmentation_repeated_per_epoch_or_worker(split: Paths) -> None:
    """Eight rows of one picture through two loader processes and two epochs: all sixteen draws differ."""
    rows = readable_rows(read_manifest(split.manifest))
    recipe = load_recipe("tiny", ["augment.random_resized_crop.scale=[0.2,0.9]", "augment.color_jitter.p=1"])
    transforms = train_transforms(recipe, ["hflip"])
    dataset = ImageDataset(open_pixels(split, rows, 24, "train"), rows.head(8).assign(position=3), transforms, seed=0)
    loader = Loader(dataset, EpochBatches(8, 4, seed=0), workers=2, pin=False)
    draws = [image.numpy().tobytes() for epoch in (0, 1) for images, _ in loader.epoch(epoch) for image in images]
    assert len(draws) == len(set(draws)) == 16


MANY_EPOCHS = ["epochs=4000", "ema_decay=0.9"]


@pytest.mark.parametrize(("number", "whole_group"), [(signal.SIGTERM, False), (signal.SIGINT, True)])
def test_row_12_a_signal_saves_and_a_second_leaves_at_once(
    split: Paths, root: Path, number: int, whole_group: bool
) -> None:
    """Real processes, once with loader processes that the signal reaches too; then another that is asked twice."""
    settings = ["--fold", "0", "--threads", "1", "--workers", "2" if whole_group else "0", "--set", *MANY_EPOCHS]
    process = start_stage(root, "train", *settings)
    wait_for(lambda: list(split.runs.glob("*/fold0/checkpoints/*/manifest.json")), process)
    began = time.monotonic()
    (os.killpg if whole_group else os.kill)(process.pid, number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 75 and time.monotonic() - began < 20, err
    assert "Traceback" not in err and "stopped by SIG" in err and "the same command goes on" in err
    folder = next(split.runs.glob("*/fold0"))
    step = max(int(place.parent.name) for place in folder.glob("checkpoints/*/manifest.json"))
    said = re.search(r"fold 0 is saved after step ([\d,]+) of 8,000", err)  # in validation too
    assert said and int(said[1].replace(",", "")) == step

    process = start_stage(root, "train", *settings)
    events = len(list(folder.glob("events*")))
    wait_for(lambda: len(list(folder.glob("events*"))) > events, process)
    os.kill(process.pid, signal.SIGSTOP)  # so that both wait for it together
    os.kill(process.pid, signal.SIGTERM)
    os.kill(process.pid, signal.SIGINT)
    os.kill(process.pid, signal.SIGCONT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, (out, err)
    assert f"going on after step {step:,}" in out


def test_row_12_a_signal_that_meets_a_destructor_is_not_lost() -> None:
    """Python drops what is raised there."""
    code = """
import os, signal, time
from pipeline.system.console import run_stage
class Dying:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)
def main():
    Dying()
    time.sleep(30)
run_stage(main)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (75, ""), done
    assert "stopped by SIGTERM; the same command goes on" in done.stderr and "ignored" not in done.stderr


def test_row_13_the_time_is_over(
    split: Paths,
    stage: Stage,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    root: Path,
    undisturbed: Trained,
) -> None:
    """Fold 1 ends in time, fold 0 is stopped by the clock; what is done is submitted, and fold 0 goes on later."""
    later = ["--set", *SETTINGS]
    stage("train", "--fold", "1", "--threads", "1", "--until", str(time.time() + 3600), *later)
    now, asked = time.time(), []

    def clock() -> float:
        asked.append(1)
        return now + 200 * (len(asked) > 5)

    monkeypatch.setattr(signals.time, "time", clock)
    with pytest.raises(SystemExit) as stopped:
        stage("train", "--fold", "0", "--threads", "1", "--until", str(now + 150), *later)
    assert stopped.value.code == 0  # it was told to
    monkeypatch.undo()
    monkeypatch.chdir(root)
    monkeypatch.setattr("pipeline.system.places.ROOT", root)
    assert "the time is over; fold 0 is saved after step" in capsys.readouterr().err
    for name in ("predict", "ensemble", "submit"):
        stage(name, "--folds", "1", *later)
    assert "PARTIAL: 1 of 3 folds" in capsys.readouterr().out
    assert len(pd.read_csv(next((root / "submissions" / "shapes").glob("*~folds=1.csv")))) == 11
    stage("train", "--fold", "0", *later)
    assert trained(split) == undisturbed


# --- loader processes -------------------------------------------------------------------------------------------


class Deadly(Pixels):
    """Pictures of which the last ends, or holds up, the loader process that reads it."""

    def __init__(self, pixels: Pixels, deed: Callable[[], object]) -> None:
        self.__dict__.update(pixels.__dict__)
        self.deed = deed

    def __getitem__(self, row: int) -> np.ndarray:
        if row == len(self) - 1 and get_worker_info():
            self.deed()
        return super().__getitem__(row)


def loader_with(paths: Paths, deed: Callable[[], object]) -> Iterator:
    """A pass of two loader processes over the shapes; the last batch meets the deed."""
    rows = readable_rows(read_manifest(paths.manifest))
    pixels = Deadly(open_pixels(paths, rows, 24, "train"), deed)
    dataset = ImageDataset(pixels, rows, eval_transforms(load_recipe("tiny", [])))
    return Loader(dataset, EpochBatches(len(rows), 16), workers=2, pin=False).epoch()


def run_into_memory_limit() -> None:
    """What a loader process meets when the memory is full."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 10_000_000, hard))
    np.ones(2**28, np.uint8)


@pytest.mark.parametrize(
    "deed",
    [
        lambda: os.kill(os.getpid(), signal.SIGKILL),
        lambda: os.kill(os.getpid(), signal.SIGSEGV),
        lambda: time.sleep(600),
    ],
    ids=["SIGKILL", "SIGSEGV", "hang"],
)
def test_row_14_a_loader_process_dies_or_hangs(
    split: Paths, monkeypatch: pytest.MonkeyPatch, deed: Callable[[], object]
) -> None:
    monkeypatch.setattr("pipeline.pixels.dataset.PATIENCE", 5)
    with pytest.raises(FoldwiseError, match=r"while they made batches \d to [5-8] of epoch 1, from image .*WORKERS=1"):
        list(loader_with(split, deed))
    assert not multiprocessing.active_children()


ORPHAN = """
import multiprocessing, os, sys, time
from pipeline.pixels.workers import start_worker
from pipeline.system.processes import is_alive

def work(begun):
    while sys.argv[1] == "before" and is_alive(os.getppid()) and os.getppid() == parent:
        time.sleep(0.01)
    start_worker(0)
    begun.set()
    time.sleep(600)

parent, begun = os.getpid(), multiprocessing.Event()
multiprocessing.Process(target=work, args=(begun,)).start()
if sys.argv[1] == "after":
    begun.wait()
os._exit(130)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere torch's own watch has to do")
@pytest.mark.parametrize("died", ["before", "after"])
def test_row_14_a_loader_process_ends_with_its_parent(died: str) -> None:
    """Also one whose parent was gone before it began, which torch takes for the child of whoever inherited it."""
    # It comes back once nobody holds its pipes any more, so that an orphan shows as TimeoutExpired.
    left = subprocess.run([sys.executable, "-c", ORPHAN, died], capture_output=True, text=True, timeout=30)
    assert (left.returncode, left.stdout, left.stderr) == (130, "", "")


def test_row_15_a_loader_process_runs_out_of_memory(split: Paths, stage: Stage, failure: Failure) -> None:
    with pytest.raises(MemoryError):
        list(loader_with(split, run_into_memory_limit))
    assert not multiprocessing.active_children()

    def main() -> None:
        raise MemoryError

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(pipeline.train, "main", main)
        assert "the memory is full" in failure("train", "--fold", "0")


def test_row_16_little_shared_memory(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(workers_module.shutil, "disk_usage", lambda _: usage._replace(free=64_000_000))
    assert workers_module.affordable(4, 64 * 224 * 224 * 3) == 2
    assert "2 loader processes" in (said := capsys.readouterr().out) and "--shm-size" in said
    assert workers_module.affordable(4, 64 * 64 * 64 * 3) == 4
    assert workers_module.affordable(4, 10**9) == 0


def test_row_17_too_many_open_files(split: Paths, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that may open 64 files does without loader processes; one that may raise its limit raises it."""

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))

    process = start_stage(root, "train", "--fold", "0", "--workers", "2", prepare=limited)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "no loader processes, since there are only 64 open files" in out
    limits = [64, 4096]
    monkeypatch.setattr(resource, "getrlimit", lambda _: tuple(limits))
    monkeypatch.setattr(resource, "setrlimit", lambda _, wanted: limits.__setitem__(slice(None), wanted))
    assert workers_module.affordable(8, 1) == 8 and 64 < limits[0] < 4096


# --- images -----------------------------------------------------------------------------------------------------


def encoded_photo(image: Image.Image, format: str, **options: Any) -> bytes:
    """An image file's bytes."""
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


PHOTO = Image.fromarray(
    np.indices((40, 30)).sum(0).astype(np.uint8)[..., None].repeat(3, 2) * np.array([1, 2, 3], np.uint8)
)
PHOTO_JPEG, PHOTO_PNG = encoded_photo(PHOTO, "JPEG"), encoded_photo(PHOTO, "PNG")
DAMAGED_PHOTOS = {
    "empty": b"",
    "html": b"<html><body>404</body></html>",
    "text": b"not an image",
    "half a JPEG": PHOTO_JPEG[: len(PHOTO_JPEG) // 2],
    "JPEG without its end": PHOTO_JPEG[:-20],
    "JPEG header": PHOTO_JPEG[:30],
    "half a PNG": PHOTO_PNG[: len(PHOTO_PNG) // 2],
    "PNG header": PHOTO_PNG[:20],
    "PNG with a flipped byte": PHOTO_PNG[:60] + bytes([PHOTO_PNG[60] ^ 255]) + PHOTO_PNG[61:],
    "half a GIF": encoded_photo(PHOTO, "GIF")[:200],
    "half a WebP": encoded_photo(PHOTO, "WEBP")[:60],
    "half a BMP": encoded_photo(PHOTO, "BMP")[:900],
}


def test_row_18_damaged_images(split: Paths, failure: Failure, edit: Callable[[str, str], None], stage: Stage) -> None:
    for number, content in enumerate(DAMAGED_PHOTOS.values()):
        (split.raw / "train" / f"circle_{1000 + number}.png").write_bytes(content)
    assert f"{len(DAMAGED_PHOTOS)} of 72 train files cannot be used" in failure("manifest")
    edit("[test]", "max_bad = 0.5\n[test]")
    stage("manifest")
    named = pd.read_csv(split.problems)
    assert (named["problem"] == "unreadable").sum() == len(DAMAGED_PHOTOS)
    assert named["detail"].str.len().min() > 8
    assert (read_manifest(split.manifest)["split"] == "train").sum() == 60


def test_row_19_a_png_with_a_flipped_byte_never_kills_the_process(split: Paths, root: Path) -> None:
    """One byte after another; which of them are noticed is the decoder's affair, that it lives is ours."""
    for at in range(8, len(PHOTO_PNG), 3):
        content = PHOTO_PNG[:at] + bytes([PHOTO_PNG[at] ^ 0x55]) + PHOTO_PNG[at + 1 :]
        (split.raw / "test" / f"{100 + at}.png").write_bytes(content)
    sample = split.raw / "sample_submission.csv"
    sample.write_text("id,label\n" + "".join(f"{path.stem},circle\n" for path in (split.raw / "test").iterdir()))
    process = start_stage(root, "manifest")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "note: unreadable" in out


def test_row_20_a_decompression_bomb(split: Paths, root: Path) -> None:
    """A 1-bit PNG of 40,000 x 30,000 pixels, 146 KB: named by its header, in little memory."""
    bomb = encoded_photo(Image.new("1", (40000, 30000)), "PNG")
    (split.raw / "test" / "5.png").write_bytes(bomb)
    code = (
        "import sys; from pipeline.pixels.decode import inspect, Unreadable; from pathlib import Path\n"
        "try: inspect(Path(sys.argv[1]))\n"
        "except Unreadable as fault: print(fault)\n"
        "print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, split.raw / "test" / "5.png"], cwd=CHECKOUT, capture_output=True, text=True
    )
    said, peak = done.stdout.splitlines()
    assert said.startswith("40000 x 30000 pixels are more than") and int(peak) < 200_000, done.stdout
    process = start_stage(root, "manifest")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0 and "40000 x 30000 pixels" in out, err


ORIENTED = Image.Exif()
ORIENTED[0x0112] = 6
ALPHA = Image.fromarray(np.dstack([np.asarray(PHOTO), np.full((40, 30), 128, np.uint8)]))
#: sha256 of the RGB pixels that each file must give, whatever the stage: with the versions of constraints.txt.
GOLDEN = {
    "RGB": (PHOTO_PNG, "c47834452cc0"),
    "grey": (encoded_photo(PHOTO.convert("L"), "PNG"), "3e6871052898"),
    "palette": (encoded_photo(PHOTO.quantize(16), "PNG"), "c8fe55e6d622"),
    "alpha": (encoded_photo(ALPHA, "PNG"), "c47834452cc0"),
    "16 bits": (encoded_photo(Image.fromarray(np.indices((40, 30)).sum(0).astype(np.uint16) * 900), "PNG"), "2495fae08590"),
    "CMYK": (encoded_photo(PHOTO.convert("CMYK"), "JPEG", quality=95), "370127c38a0c"),
    "EXIF": (encoded_photo(PHOTO, "JPEG", quality=95, exif=ORIENTED), "6abd2cfc9742"),
}


@pytest.mark.parametrize("kind", GOLDEN)
def test_row_21_every_mode_gives_the_same_rgb_in_every_stage(
    split: Paths, stage: Stage, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, sha256 = GOLDEN[kind]
    pixels = decode(content)
    assert hashlib.sha256(pixels.tobytes()).hexdigest().startswith(sha256), kind
    assert pixels.shape == ((30, 40, 3) if kind == "EXIF" else (40, 30, 3))
    (split.raw / "test" / "5.png").write_bytes(content)
    stage("manifest")
    rows = readable_rows(read_manifest(split.manifest))
    row = int(rows.query("split == 'test' and image_id == '5'")["position"].iloc[0])
    trained_on = open_pixels(split, rows, 64, "train")[row]
    monkeypatch.setattr("pipeline.pixels.cache.DISK_SHARE", 0)
    monkeypatch.setattr(Paths, "cache", split.home / "elsewhere")
    predicted_on = open_pixels(split, rows, 64, "predict")[row]
    np.testing.assert_array_equal(trained_on, pixels)
    np.testing.assert_array_equal(predicted_on, pixels)


def test_row_22_an_unreadable_test_image_keeps_its_row(shapes: Paths, stage: Stage, root: Path) -> None:
    """Its prediction is the share of each class."""
    (shapes.raw / "test" / "4.png").write_bytes(b"<html>not found</html>")
    (shapes.raw / "train" / "circle_0.png").unlink()  # 29 circles, 30 squares
    for name, *options in (["prepare"], ["manifest"], ["folds"], ["train", "--fold", "0"]):
        stage(name, *options)
    for name in ("predict", "ensemble", "submit"):
        stage(name, "--folds", "0")
    assert list(pd.read_csv(shapes.problems)["problem"]) == ["unreadable"]
    row = pd.read_csv(shapes.run("tiny") / "test~folds=0.csv", dtype={"id": str}).set_index("id").loc["4"]
    assert row["p_circle"] == pytest.approx(29 / 59) and row["p_square"] == pytest.approx(30 / 59)
    assert len(pd.read_csv(root / "submissions" / "shapes" / "tiny~folds=0.csv")) == 11


# --- tables -----------------------------------------------------------------------------------------------------

STRANGE_IDS = [
    "007",
    "NA",
    "null",
    "1e5",
    "größe",
    "日本",
    "a,b",
    'say "x"',
    "two\nlines",
    " space ",
    "0x1F",
    "TRUE",
    "-0",
]


def test_row_23_strange_ids_are_kept_byte_for_byte(shapes: Paths, stage: Stage, root: Path) -> None:
    """From a sample submission of a hidden test set through every stage to the CSV."""
    sample = pd.DataFrame({"id": STRANGE_IDS, "label": "circle"})
    sample.to_csv(shapes.raw / "sample_submission.csv", index=False, lineterminator="\n")
    toml = shapes.toml.read_text().replace(r"pattern = '^(?P<id>\d+)\.png$'", 'ids = "sample_submission.csv"')
    shapes.toml.write_text(toml.replace('value   = "class"', 'value = "class"\norder = "sample"'))
    for name, *options in (["prepare"], ["manifest"], ["folds"], ["train", "--fold", "0"]):
        stage(name, *options)
    for name in ("predict", "ensemble", "submit"):
        stage(name, "--folds", "0")
    written = (root / "submissions" / "shapes" / "tiny~folds=0.csv").read_bytes()
    column = [line.rpartition(b",")[0] for line in (shapes.raw / "sample_submission.csv").read_bytes().splitlines()]
    assert [line.rpartition(b",")[0] for line in written.splitlines()] == column


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda rows: rows[:-1], r"1 id too many \(such as '3'\)"),
        (lambda rows: [*rows, "9,a"], r"1 id missing \(such as '9'\)"),
        (lambda rows: [*rows, "1,a"], "the id '1' more than once"),
    ],
)
def test_row_24_ids_missing_extra_or_twice(
    tmp_path: Path, change: Callable[[list[str]], list[str]], expected: str
) -> None:
    form = Submission(value="class")
    table = format_submission(pd.Series(["1", "2", "3"]), np.eye(3, 2, dtype=float), Classification(["a", "b"]), form)
    sample = tmp_path / "sample.csv"
    sample.write_text("\n".join(["id,label", *change(["1,a", "2,a", "3,a"])]) + "\n")
    with pytest.raises(FoldwiseError, match=expected):
        check_sample(table, sample, form)


def test_row_25_one_image_under_two_names_shares_a_fold(split: Paths, stage: Stage) -> None:
    for number in range(0, 20, 2):
        shutil.copy(split.raw / "train" / f"circle_{number}.png", split.raw / "train" / f"circle_{500 + number}.png")
    stage("manifest")
    stage("folds")
    fold = pd.read_csv(split.folds).set_index("image_id")["fold"]
    assert all(fold[f"circle_{number}"] == fold[f"circle_{500 + number}"] for number in range(0, 20, 2))
    assert "identical" in set(pd.read_csv(split.problems)["problem"])


@pytest.mark.parametrize("images", [1, 2])
def test_row_26_a_class_smaller_than_the_folds(
    shapes: Paths, stage: Stage, images: int, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(images):
        write_image(shapes.raw / "train" / f"star_{number}.png", np.full((20, 20, 3), 90 + number, np.uint8))
    for name in ("prepare", "manifest", "folds"):
        stage(name)
    assert "1 class with fewer images or groups than folds ('star')" in capsys.readouterr().out
    folds = pd.read_csv(shapes.folds)
    assert (folds["label"] == "star").sum() == images and set(folds["fold"]) == {0, 1, 2}


def test_row_27_folds_that_changed_after_training(split: Paths, stage: Stage, failure: Failure) -> None:
    stage("train", "--fold", "0")
    folds = split.folds.read_text()
    swapped = folds.replace(",0\n", ",9\n").replace(",1\n", ",0\n").replace(",9\n", ",1\n")
    split.folds.write_text(swapped)
    assert "folds_sha256 differs" in failure("predict", "--folds", "0")
    split.folds.write_text(folds)
    shutil.copytree(split.fold("tiny", 0), split.fold("tiny", 1))  # a fold that passes for another one
    assert "another fold" in failure("predict", "--folds", "1")


# --- numbers ----------------------------------------------------------------------------------------------------


def test_row_28_numbers_that_are_none(split: Paths, stage: Stage, failure: Failure, tmp_path: Path) -> None:
    """A loss that is not a number, an infinite gradient behind a finite loss, and a finite run with bad weights."""
    settings = ["lr=1e30", "optimizer=sgd", "epochs=4"]
    message = failure("train", "--fold", "0", "--set", *settings)
    assert re.search(
        r"(the loss is (nan|inf)|a weight is no finite number) after step \d at lr = \S+e\+(29|30)", message
    )
    folder = next(split.runs.glob("*/fold0"))
    batches = json.loads((folder / "diverged.json").read_text())["last_batches"]
    assert all(len(batch) == 16 for batch in batches) and batches[-1][0].split("_")[0] in ("circle", "square")
    assert not list(folder.glob("weights*")) and not list(folder.glob("checkpoints/*"))

    ids, lr_of = [f"i{row}" for row in range(6)], lambda _: 0.5
    training = tiny_training()
    require_finite(training, ids, lr_of, tmp_path)
    training.module.state_dict()["2.weight"][0, 0] = torch.inf
    with pytest.raises(FoldwiseError, match="a weight is no finite number after step 1"):
        require_finite(training, ids, lr_of, tmp_path)
    training = tiny_training()
    for loss in (0.3, torch.nan, 0.2):
        training.add(torch.tensor(loss), torch.zeros(6, 2), torch.arange(6).flip(0))
    with pytest.raises(FoldwiseError, match=r"the loss is nan after step 3 at lr = 0\.5, on a batch with 'i5'"):
        require_finite(training, ids, lr_of, tmp_path)


class Greedy(nn.Module):
    """A model for whose memory more than four images are too much."""

    def __init__(self, num_classes: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(3, num_classes)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if self.training and len(inputs) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return self.linear(inputs.mean((2, 3)))


def test_row_29_gpu_memory(
    split: Paths, stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Batches of 16 in four parts make the weights that whole ones make, and a resumed fold keeps to them."""
    monkeypatch.setitem(networks.REGISTERED, "greedy", networks.Registered(Greedy, IMAGENET))
    monkeypatch.setattr(memory, "SMALL_MEMORY", ("cpu",))
    stage("train", "--fold", "0", "--set", "model=greedy", "epochs=3")
    assert "each batch goes through the model in 4 parts" in capsys.readouterr().out
    folder = next(split.runs.glob("*/fold0"))
    assert json.loads((folder / "arrangement.json").read_text())["parts"] == 4
    in_parts = load_file(folder / "weights.safetensors")
    (folder / "trained.json").unlink()
    monkeypatch.setattr(memory, "parts_that_fit", lambda *_: pytest.fail("it was tried again"))
    stage("train", "--fold", "0", "--set", "model=greedy", "epochs=3")
    assert torch.equal(in_parts["linear.weight"], load_file(folder / "weights.safetensors")["linear.weight"])
    forget(split)
    monkeypatch.setattr(memory, "SMALL_MEMORY", ())
    monkeypatch.setattr(Greedy, "forward", lambda module, inputs: module.linear(inputs.mean((2, 3))))
    stage("train", "--fold", "0", "--set", "model=greedy", "epochs=3")
    whole = load_file(next(split.runs.glob("*/fold0")) / "weights.safetensors")
    torch.testing.assert_close(in_parts["linear.weight"], whole["linear.weight"], atol=1e-5, rtol=1e-4)

    def never(parts: int) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(FoldwiseError, match="too small for one image at a time"):
        parts_that_fit(never, 1, 16)


# --- the machine ------------------------------------------------------------------------------------------------


def test_row_30_no_gpu(split: Paths, failure: Failure, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    said = failure("train", "--fold", "0", "--device", "cuda:7")
    assert "there is no device 'cuda:7' on this machine; leave DEVICE out" in said
    process = start_stage(root, "train", "--fold", "0")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0 and "to validate; cpu" in out, err


def test_row_31_no_network(
    split: Paths, failure: Failure, root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in {
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": "hf",
        "TORCH_HOME": "torch",
        "https_proxy": "nowhere:1",
    }.items():
        monkeypatch.setenv(name, str(tmp_path / value) if name.endswith("HOME") else value)
    for model in ("resnet18", "torchvision/resnet18"):
        process = start_stage(
            root, "train", "--fold", "0", "--set", f"model={model}", "pretrained=true", "model_args={}"
        )
        _, err = process.communicate(timeout=90)
        assert process.returncode == 1, err
        assert f"the pretrained weights of '{model}' cannot be fetched" in err and "Traceback" not in err
        assert 'SET="pretrained=false"' in err


def test_row_32_two_runs_in_one_folder(split: Paths, stage: Stage, failure: Failure, root: Path) -> None:
    process = start_stage(root, "train", "--fold", "0", "--set", *MANY_EPOCHS)
    wait_for(lambda: list(split.runs.glob("*/fold0/checkpoints/*/manifest.json")), process)
    message = failure("train", "--fold", "0", "--set", *MANY_EPOCHS)
    assert f"process {process.pid} on {HOST} is at work in" in message
    process.kill()
    process.communicate()
    lock = next(split.runs.glob("*/fold0/lock"))
    assert living_owner(lock) is None  # its owner is dead: the lock is taken over
    with owned(lock):
        assert living_owner(lock)
    lock.write_text(json.dumps({"host": "another", "pid": 1, "start": ""}))  # on another machine: by its heartbeat
    with pytest.raises(FoldwiseError, match="process 1 on another is at work"), owned(lock):
        pass
    os.utime(lock, (0, 0))
    with owned(lock):
        pass
    lock.write_text(json.dumps({"host": HOST, "pid": os.getpid(), "start": "another process of this number"}))
    with owned(lock):
        pass


def archive_of(path: Path, *members: str | zipfile.ZipInfo) -> None:
    """A zip whose members hold nine bytes each."""
    with zipfile.ZipFile(path, "w") as archive:
        for member in members:
            archive.writestr(member, b"some data")


def link_member() -> zipfile.ZipInfo:
    """A symbolic link's entry."""
    info = zipfile.ZipInfo("train/link.png")
    info.external_attr = 0o120777 << 16
    return info


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        (["../evil.png"], "unsafe name"),
        (["train/../../evil.png"], "unsafe name"),
        (["/evil.png"], "unsafe name"),
        (["C:\\evil.png"], "unsafe name"),
        ([link_member()], "holds a link"),
        (["train/A.png", "train/a.png"], "two files of one name"),
        (["train/\u00e9.png", "train/e\u0301.png"], "two files of one name"),
        (["train", "train/a.png"], "both as a file and as a folder"),
    ],
)
def test_row_36_archives(shapes: Paths, failure: Failure, members: list, expected: str) -> None:
    archive_of(shapes.raw / "bad.zip", "train/good.png", *members)
    before = {path for path in shapes.home.parent.rglob("*")}
    assert expected in failure("prepare")
    made = {path for path in shapes.home.parent.rglob("*")} - before
    assert not [path for path in made if path.suffix == ".png"] and not (shapes.home / "images").exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a = " + "[" * 5000, "nested too deeply"),
        ("n = " + "9" * 5000, "not valid TOML"),
        ("title = 1\ntitle = 2", "not valid TOML"),
        ("#" * 1_100_000, "more than 1,000,000"),
        ("lr = inf", "finite number"),
        ("lr = nan", "finite number"),
        ('lr = "1e-4x"', "lr"),
        ("unknown = 1", "unknown key 'unknown'"),
    ],
)
def test_row_37_settings(
    split: Paths, failure: Failure, text: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TOML has no tags and no aliases; what is left of the row: depth, length, repeats, types, unknown keys. And
    1e-4 is a number in it."""
    shutil.copytree(CHECKOUT / "pipeline" / "recipes", tmp_path / "recipes")
    monkeypatch.setattr("pipeline.records.paths.RECIPES", tmp_path / "recipes")
    tiny = (tmp_path / "recipes" / "tiny.toml").read_text()
    assert load_recipe("tiny", ["lr=1e-4"]).lr == 1e-4
    without_lr = tiny.replace("lr         = 3e-3\n", "") if text.startswith("lr") else tiny
    (tmp_path / "recipes" / "tiny.toml").write_text(text + "\n" + without_lr)
    assert expected in failure("train", "--fold", "0")


@pytest.mark.parametrize("pattern", [r"^(?P<label>(a+)+)$", r"^(?P<label>(\w*)*)\.jpg$", r"(?P<label>(x|xx)+)y"])
def test_row_38_a_pattern_that_takes_forever(
    shapes: Paths, failure: Failure, edit: Callable[[str, str], None], pattern: str
) -> None:
    for letter in "ax":
        write_image(shapes.raw / "train" / (letter * 60 + ".png"), np.zeros((9, 9, 3), np.uint8))
    edit(r"^(?P<label>.*?)_(?P<id>\d+)\.png$", pattern)
    began = time.process_time()
    assert "takes forever on the name" in failure("manifest")
    assert time.process_time() - began < 4


def test_row_39_a_read_only_or_full_folder_is_said_before_training(
    split: Paths, failure: Failure, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Before the first step. (Root writes into folders that forbid it, so the refusals are the system's, made here.)"""
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(pipeline.train, "seed_step", lambda *key: None if len(key) < 3 else pytest.fail("it trained"))
    with monkeypatch.context() as patched:
        patched.setattr(checkpoint.shutil, "disk_usage", lambda _: usage._replace(free=10_000))
        message = failure("train", "--fold", "0")
        assert "the disk is full" in message and "its checkpoints may take" in message
    mkdir = Path.mkdir

    def refuse(path: Path, *args: Any, **options: Any) -> None:
        if path.name == "fold0":
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        mkdir(path, *args, **options)

    forget(split)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "mkdir", refuse)
        message = failure("train", "--fold", "0")
        assert "read-only disk" in message and "fold0" in message
    small = split.home / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", small], capture_output=True).returncode:
        return  # mounting a really small disk is not allowed here
    try:
        split.runs.symlink_to(small)
        assert "the disk is full" in failure("train", "--fold", "0")
        assert not [path for path in small.rglob("*") if ".tmp-" in path.name]
    finally:
        subprocess.run(["umount", small], check=True)


def run_doctor(*paths: Path, root: Path, **environment: str) -> str:
    """What the doctor says with these folders before the installed packages."""
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.tools.doctor"], cwd=CHECKOUT, capture_output=True, text=True,
        env={**os.environ, "FOLDWISE_ROOT": str(root), "PYTHONPATH": os.pathsep.join(map(str, paths)), **environment},
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode == ("mend  " in done.stdout)
    return done.stdout


def test_row_40_the_doctor_sees_a_wrong_opencv(shapes: Paths, root: Path, tmp_path: Path) -> None:
    """Both wheels of different versions, by a made-up record of one; and a build whose library is missing."""
    assert "nothing to mend" in run_doctor(root=root)
    fake = tmp_path / "fake" / "opencv_python_headless-4.9.0.80.dist-info"
    fake.mkdir(parents=True)
    (fake / "METADATA").write_text("Metadata-Version: 2.1\nName: opencv-python-headless\nVersion: 4.9.0.80\n")
    said = run_doctor(fake.parent, root=root)
    assert "opencv-python-headless 4.9.0.80: two versions in one folder" in said and "pip uninstall -y opencv" in said
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "cv2.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file')")
    said = run_doctor(broken, root=root)
    assert "cannot be imported: ImportError: libGL.so.1" in said and "make setup" in said
