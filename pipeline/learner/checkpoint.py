"""Saves and loads the weights of a trained fold and the checkpoints of an unfinished one.

Loading never runs code from a file: weights are safetensors, and the trainer state is plain types that are read with
``weights_only=True``. Neither format detects a flipped bit, so every file is checked against its sha256.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import pickle
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import nn

from pipeline.learner.training import Training
from pipeline.records.runs import differences
from pipeline.system.console import say
from pipeline.system.errors import FoldwiseError, MachineError, StaleError
from pipeline.system.files import atomic_path, fingerprint, read_record, write_record
from pipeline.system.places import shown

#: Seconds between two checkpoints within an epoch, and the number of checkpoints that are kept.
SAVE_EVERY, KEEP = 300.0, 2
#: Largest fraction of the time for checkpoints at the ends of epochs; if epochs are short, not every epoch gets one.
MAX_TIME_FRACTION = 0.01


class HashedFile(io.BufferedWriter):
    """A file open for writing that computes the sha256 of its content, so that no checkpoint is built in memory first.

    sha256: hash of what was written so far
    error: the OSError of a failed write; None if there was none
    """

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path, "w"))
        self.sha256 = hashlib.sha256()
        self.error: OSError | None = None

    def write(self, content: Any) -> int:
        """Writes all of ``content``, a bytes-like object; raises OSError."""
        self.sha256.update(content)
        try:
            return super().write(content)
        except OSError as error:
            self.error = error
            raise


def write_hashed(path: Path, write: Callable[[HashedFile], object]) -> str:
    """Writes a file, completely or not at all, by calling ``write`` with the open file; returns its sha256."""
    with atomic_path(path) as temporary, HashedFile(temporary) as file:
        try:
            write(file)
        except RuntimeError as error:
            raise (file.error or error) from None  # for a full disk torch raises its own error
    return file.sha256.hexdigest()


def cpu_state(module: nn.Module) -> dict[str, torch.Tensor]:
    """A module's weights and buffers as safetensors needs them: on the CPU, contiguous, without shared memory."""
    state = module.state_dict().items()
    return {name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in state}


def save_weights(path: Path, module: nn.Module, about: dict[str, Any]) -> str:
    """Writes a module's weights and buffers, with ``about`` as metadata for ``load_weights``; returns the sha256."""
    content = safetensors.torch.save(cpu_state(module), metadata={"foldwise": json.dumps(about)})
    return write_hashed(path, lambda file: file.write(content))


def load_weights(path: Path, sha256: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Returns the weights and the ``about`` that ``save_weights`` wrote.

    Raises FoldwiseError if the file is damaged or does not have this sha256.
    """
    try:
        content = path.read_bytes()
        if fingerprint(content) != sha256:
            raise ValueError("it has changed since it was written")
        with safetensors.safe_open(path, "pt") as file:
            about = json.loads(file.metadata()["foldwise"])
        return safetensors.torch.load(content), about
    except (safetensors.SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise StaleError(f"{shown(path)} is damaged ({error}); delete its folder and train that fold again") from error


class InvalidCheckpoint(Exception):
    """Raised if a checkpoint cannot be used; the message gives the reason."""


class Checkpoints:
    """The checkpoints of one fold, in ``<folder>/<step>/``. Training resumes from the newest valid one; two are kept.

    A checkpoint consists of trainer.pt, module.safetensors, kept.safetensors (if the weights to keep are a moving
    average) and manifest.json, which is written last and holds the sha256 of each file and ``made_of``.

    made_of: everything that decides what the fold learns; a checkpoint with other values is refused
    writes: True if this rank writes checkpoints, which only the first rank does
    saved_step: step of the newest checkpoint; 0 if there is none
    """

    def __init__(self, folder: Path, made_of: dict[str, Any], writes: bool = True) -> None:
        self.folder, self.made_of, self.writes = folder, made_of, writes
        self.saved_at = time.monotonic()
        self.saved_step, self.cost = 0, 0.0

    def is_due(self, end_of_epoch: bool) -> bool:
        """True if enough time has passed since the last checkpoint, at the end of an epoch or within one.

        Only the clock decides, but results do not depend on it: it only changes when a checkpoint is written.
        """
        return self.writes and time.monotonic() - self.saved_at >= (
            self.cost / MAX_TIME_FRACTION if end_of_epoch else SAVE_EVERY
        )

    def save(self, training: Training) -> None:
        """Writes a checkpoint and deletes the oldest one.

        If the disk is full, prints a note and keeps the older checkpoints; a later checkpoint may find enough space.
        """
        if not self.writes:
            return
        place, began = self.folder / f"{training.step:08}", time.monotonic()
        try:
            # One file after another, so that only one at a time is in memory.
            files = {"trainer.pt": write_hashed(place / "trainer.pt", training.save_trainer)}
            for name, module in training.modules.items():
                file = f"{name}.safetensors"
                files[file] = save_weights(place / file, module, {})
            write_record(place / "manifest.json", {"step": training.step, "made_of": self.made_of, "files": files})
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            shutil.rmtree(place, ignore_errors=True)
            say("train", f"note: no room to save step {training.step} in {shown(self.folder)}; free some disk space")
            return
        finally:
            self.saved_at = time.monotonic()
            self.cost = self.saved_at - began
        self.saved_step = training.step
        for old in sorted(self.folder.iterdir())[:-KEEP]:
            self.remove(old)

    def restore(self, training: Training, device: torch.device) -> None:
        """Restores the newest valid checkpoint, if there is one; reports and deletes the invalid ones.

        Raises FoldwiseError if a checkpoint was made from something else.
        """
        for place in sorted(self.folder.glob("*"), reverse=True):
            if not (place / "manifest.json").exists():  # writing it was interrupted
                self.remove(place)
                continue
            try:
                training.restore(*self.read(place), device)
            except InvalidCheckpoint as reason:
                say("train", f"note: the checkpoint {shown(place)} is invalid and is deleted: {reason}")
                self.remove(place)
                continue
            self.saved_step = training.step
            return

    def read(self, place: Path) -> tuple[dict[str, bytes], dict[str, Any]]:
        """Reads a checkpoint: the content of its files by name (without suffix), and the trainer state.

        Raises InvalidCheckpoint if a file is not as it was written, and FoldwiseError if ``made_of`` differs.
        """
        try:
            manifest = read_record(place / "manifest.json", "made_of", "files")
        except FoldwiseError as fault:
            raise InvalidCheckpoint(str(fault).partition(";")[0]) from fault
        differing = differences(manifest["made_of"], self.made_of)
        if differing:
            raise StaleError(
                f"{shown(place)} was made from something else ({differing}); undo the change, or delete "
                f"{shown(self.folder)} to train this fold from the start"
            )
        try:
            contents = {name: (place / name).read_bytes() for name in manifest["files"]}
            for name, sha256 in manifest["files"].items():
                if fingerprint(contents[name]) != sha256:
                    raise InvalidCheckpoint(f"{name} has changed since it was written")
            trainer = torch.load(io.BytesIO(contents["trainer.pt"]), map_location="cpu", weights_only=True)
            return {name.partition(".")[0]: content for name, content in contents.items()}, trainer
        except OSError as error:
            raise InvalidCheckpoint(f"it is incomplete ({error})") from error
        except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise InvalidCheckpoint(str(error).splitlines()[0]) from error

    def remove(self, place: Path) -> None:
        """Deletes a checkpoint: the manifest first, so that an interrupted deletion leaves an invalid checkpoint."""
        (place / "manifest.json").unlink(missing_ok=True)
        shutil.rmtree(place, ignore_errors=True)

    def discard(self) -> None:
        """Deletes all checkpoints, once the fold is trained."""
        shutil.rmtree(self.folder, ignore_errors=True)


def require_disk_space(folder: Path, training: Training) -> None:
    """Raises FoldwiseError if the disk has no room for KEEP checkpoints and one that is being written.

    Called before the first step, so that a fold does not fail after hours.
    """
    weights = sum(tensor.numel() * tensor.element_size() for tensor in training.module.state_dict().values())
    needed = 4 * weights * (KEEP + 1)  # the weights, their moving average, and the optimizer's two moments
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise MachineError(
            f"the disk is full: {shown(folder)} has {free / 1e6:,.0f} MB free and its checkpoints may take "
            f"{needed / 1e6:,.0f} MB; free some space and run the same command again"
        )
