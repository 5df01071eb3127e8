"""Loader processes that die, hang or find too little of something."""

from __future__ import annotations

import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from torch.utils.data import get_worker_info

import pipeline.train
from pipeline.pixels import workers as workers_module
from pipeline.pixels.augment import eval_transforms
from pipeline.pixels.cache import Pixels, open_pixels, readable_rows
from pipeline.pixels.dataset import EpochBatches, ImageDataset, Loader
from pipeline.records.paths import Paths
from pipeline.records.recipe import load_recipe
from pipeline.records.tables import read_manifest
from pipeline.system.errors import FoldwiseError
from tests.conftest import Failure, Stage, start_stage


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
    np.ones(2**33, np.uint8)  # more than the allocator can have kept


@pytest.mark.parametrize(
    "deed",
    [
        lambda: os.kill(os.getpid(), signal.SIGKILL),
        lambda: os.kill(os.getpid(), signal.SIGSEGV),
        lambda: time.sleep(600),
    ],
    ids=["SIGKILL", "SIGSEGV", "hang"],
)
def test_a_loader_process_dies_or_hangs(
    split: Paths, monkeypatch: pytest.MonkeyPatch, deed: Callable[[], object]
) -> None:
    monkeypatch.setattr("pipeline.pixels.dataset.TIMEOUT", 5)
    with pytest.raises(FoldwiseError, match=r"while making batches \d to [5-8] of epoch 1, from image .*WORKERS=1"):
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
def test_a_loader_process_ends_with_its_parent(died: str) -> None:
    """Also one whose parent was gone before it began, which torch takes for the child of whoever inherited it."""
    # It comes back once nobody holds its pipes any more, so that an orphan shows as TimeoutExpired.
    left = subprocess.run([sys.executable, "-c", ORPHAN, died], capture_output=True, text=True, timeout=30)
    assert (left.returncode, left.stdout, left.stderr) == (130, "", "")


def test_a_loader_process_runs_out_of_memory(split: Paths, stage: Stage, failure: Failure) -> None:
    with pytest.raises(MemoryError):
        list(loader_with(split, run_into_memory_limit))
    assert not multiprocessing.active_children()

    def main() -> None:
        raise MemoryError

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(pipeline.train, "main", main)
        assert "the memory is full" in failure("train", "--fold", "0")


def test_little_shared_memory(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(workers_module.shutil, "disk_usage", lambda _: usage._replace(free=64_000_000))
    assert workers_module.limit_workers(4, 64 * 224 * 224 * 3) == 2
    assert "2 loader processes" in (said := capsys.readouterr().out) and "--shm-size" in said
    assert workers_module.limit_workers(4, 64 * 64 * 64 * 3) == 4
    assert workers_module.limit_workers(4, 10**9) == 0


@pytest.mark.parametrize(
    ("limits", "raised_to"),
    [((64, -1), 224), ((64, 100), 100), ((65536, -1), None), ((-1, -1), None), ((300, 400), None)],
)
def test_the_limit_of_open_files_is_only_raised(
    limits: tuple[int, int], raised_to: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert resource.RLIM_INFINITY == -1
    changed: list[tuple[int, int]] = []
    monkeypatch.setattr(workers_module.resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(workers_module.resource, "setrlimit", lambda _, new: changed.append(new))
    assert workers_module.limit_workers(4, 1) == (0 if raised_to == 100 else 4)
    assert changed == ([] if raised_to is None else [(raised_to, limits[1])])


def test_too_many_open_files(split: Paths, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that may open 64 files does without loader processes; one that may raise its limit raises it."""

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))

    process = start_stage(root, "train", "--fold", "0", "--workers", "2", prepare=limited)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "no loader processes, because the limit of open files is 64" in out
    limits = [64, 4096]
    monkeypatch.setattr(resource, "getrlimit", lambda _: tuple(limits))
    monkeypatch.setattr(resource, "setrlimit", lambda _, wanted: limits.__setitem__(slice(None), wanted))
    assert workers_module.limit_workers(8, 1) == 8 and 64 < limits[0] < 4096
