"""Checkpoints: whole or not there, checked, refused if they were made from something else, never run."""

from __future__ import annotations

import errno
import io
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.learner import checkpoint
from pipeline.learner.checkpoint import Checkpoints, Training, load_weights, save_weights
from pipeline.records.paths import Paths
from pipeline.system.errors import FoldwiseError
from pipeline.system.files import atomic_path, fingerprint, read_record, write_record
from pipeline.system.places import CHECKOUT
from tests.conftest import Failure, Stage
from tests.learner.networks import network
from tests.trainings import FOLD_0, SETTINGS, Trained, tiny_training, trained


def test_weights_come_back_with_what_they_are(tmp_path: Path) -> None:
    module, path = network("small_cnn", 2, width=4).module, tmp_path / "w.safetensors"
    sha256 = save_weights(path, module, {"fold": 3})
    weights, about = load_weights(path, sha256)
    assert about == {"fold": 3} and set(weights) == set(module.state_dict())
    assert all(torch.equal(weights[name], tensor) for name, tensor in module.state_dict().items())
    content = bytearray(path.read_bytes())
    content[-1] ^= 1  # which safetensors itself would load
    path.write_bytes(content)
    with pytest.raises(FoldwiseError, match="has changed since it was written"):
        load_weights(path, sha256)


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


SAVER = """
import os, random, signal, sys, time
from pathlib import Path
import torch
from pipeline.learner.checkpoint import Checkpoints
from tests.learner.test_checkpoint import restored, tiny_training

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


def test_sigkill_while_saving(tmp_path: Path) -> None:
    """Twelve kills of a process that saves all the time: what it had told to be saved is there, and whole."""
    done = subprocess.run(
        [sys.executable, "-c", SAVER, tmp_path / "checkpoints"], cwd=CHECKOUT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.split()[-1]) > 12 and "refused" not in done.stdout


def test_an_exception_inside_saving(tmp_path: Path) -> None:
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


def test_a_full_disk_while_saving(
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
    monkeypatch.setattr(checkpoint, "MAX_TIME_FRACTION", 1e9)  # one after every epoch
    stage("train", *FOLD_0, *SETTINGS)
    assert capsys.readouterr().out.count("no room to save step") == 2
    assert trained(split) == undisturbed


def test_a_flipped_bit_in_a_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
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
        assert "00000002 is invalid" in said and not newest.exists()


@pytest.mark.parametrize("name", ["module.safetensors", "trainer.pt", "manifest.json"])
def test_a_truncated_or_empty_checkpoint(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for tenth in range(10):
        folder = tmp_path / str(tenth)
        _, first, _ = saved_twice(folder)
        newest = folder / "00000002" / name
        content = newest.read_bytes()
        newest.write_bytes(content[: len(content) * tenth // 10])
        assert weights_of(restored(folder)) == first
        assert "is invalid" in capsys.readouterr().out
    only = tmp_path / "only"
    Checkpoints(only, {"lr": 1}).save(tiny_training())
    (only / "00000001" / name).unlink()
    assert restored(only).step == 0  # from the start


def test_a_checkpoint_of_other_things(
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
    assert "task.json was made before classes in competition.toml changed" in failure("train", "--fold", "1")
    stage("manifest")
    assert "class_names was ['circle', 'square'] and is now ['square', 'circle']" in failure("train", "--fold", "1")
    edit('\nclasses = ["square", "circle"]', "")
    stage("manifest")
    folds = split.folds.read_text()
    split.folds.write_text(folds.replace(",0\n", ",9\n").replace(",1\n", ",0\n").replace(",9\n", ",1\n"))
    assert "folds_sha256 differs" in failure("train", "--fold", "1")


class Malicious:
    """An object that runs a command when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.mark}",)


def test_a_malicious_pickle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
