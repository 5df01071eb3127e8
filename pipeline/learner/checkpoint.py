"""Saved state: the weights of a finished fold, and the checkpoints that an unfinished one goes on from.

Nothing here unpickles code: weights are safetensors, trainer state is plain types read with ``weights_only=True``. Both
formats load a flipped bit without complaint, so every file is held against its sha256.

Legend: B batch, C classes.
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
from pipeline.system.errors import FoldwiseError
from pipeline.system.files import atomic_path, fingerprint, read_record, write_record
from pipeline.system.places import shown

#: Seconds after which a checkpoint is made in the middle of an epoch, and how many are kept.
SAVE_EVERY, KEEP = 300.0, 2
#: Share of the time that the checkpoints at the ends of epochs may take; where epochs are shorter, not all get one.
SHARE = 0.01


class HashedFile(io.BufferedWriter):
    """A file to write to, with the sha256 of what was written; a checkpoint need not lie in memory for it.

    error: what the system said when a write failed.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path, "w"))
        self.sha256 = hashlib.sha256()
        self.error: OSError | None = None

    def write(self, content: Any) -> int:
        """Writes all of it, bytes in whatever form; raises OSError."""
        self.sha256.update(content)
        try:
            return super().write(content)
        except OSError as error:
            self.error = error
            raise


def write_hashed(path: Path, write: Callable[[HashedFile], object]) -> str:
    """Writes a file, whole or not at all, by what ``write`` writes, and returns its sha256."""
    with atomic_path(path) as temporary, HashedFile(temporary) as file:
        try:
            write(file)
        except RuntimeError as error:
            raise (file.error or error) from None  # torch hides a full disk behind a fault of its own
    return file.sha256.hexdigest()


def plain_state(module: nn.Module) -> dict[str, torch.Tensor]:
    """A module's weights and buffers as safetensors wants them: on the CPU, dense, none shared."""
    state = module.state_dict().items()
    return {name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in state}


def save_weights(path: Path, module: nn.Module, about: dict[str, Any]) -> str:
    """Writes a module's weights and buffers with what a reader needs to build the module again; returns the sha256."""
    content = safetensors.torch.save(plain_state(module), metadata={"foldwise": json.dumps(about)})
    return write_hashed(path, lambda file: file.write(content))


def load_weights(path: Path, sha256: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The weights and what ``save_weights`` was told about them; raises FoldwiseError for a file that is not the one
    of this sha256."""
    try:
        content = path.read_bytes()
        if fingerprint(content) != sha256:
            raise ValueError("it has changed since it was written")
        with safetensors.safe_open(path, "pt") as file:
            about = json.loads(file.metadata()["foldwise"])
        return safetensors.torch.load(content), about
    except (safetensors.SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise FoldwiseError(
            f"{shown(path)} is damaged ({error}); delete its folder and train that fold again"
        ) from error


class InvalidCheckpoint(Exception):
    """A checkpoint that cannot be used; the message says why."""


class Checkpoints:
    """The checkpoints of one fold: ``<folder>/<step>/`` with trainer.pt, module.safetensors, kept.safetensors where the
    kept weights are others and, last, manifest.json, which holds the sha256 of each and what they were made of. The
    newest valid one is gone on from; two are kept. Of several ranks only the first one ``writes``.
    """

    def __init__(self, folder: Path, made_of: dict[str, Any], writes: bool = True) -> None:
        self.folder, self.made_of, self.writes = folder, made_of, writes
        self.saved_at = time.monotonic()
        self.saved_step, self.cost = 0, 0.0

    def is_due(self, end_of_epoch: bool) -> bool:
        """Whether the last one is long ago, for the end of an epoch or its midst. Nothing but the clock decides, and
        nothing but the time of the next checkpoint depends on it."""
        return self.writes and time.monotonic() - self.saved_at >= (self.cost / SHARE if end_of_epoch else SAVE_EVERY)

    def save(self, training: Training) -> None:
        """Writes one. A full disk is said and survived: the older ones stay, and a later try may find room."""
        if not self.writes:
            return
        place, began = self.folder / f"{training.step:08}", time.monotonic()
        try:
            # One after another, so that no two of them are in memory at once.
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
        """Brings the training to its newest valid checkpoint, if there is one; names those that it refuses, and
        removes them. Raises FoldwiseError for one that was made of other things."""
        for place in sorted(self.folder.glob("*"), reverse=True):
            if not (place / "manifest.json").exists():  # its writing was cut short
                self.remove(place)
                continue
            try:
                training.restore(*self.read(place), device)
            except InvalidCheckpoint as reason:
                say("train", f"note: the checkpoint {shown(place)} is refused and removed: {reason}")
                self.remove(place)
                continue
            self.saved_step = training.step
            return

    def read(self, place: Path) -> tuple[dict[str, bytes], dict[str, Any]]:
        """Weights and trainer state of one checkpoint; raises InvalidCheckpoint when a file is not what was written."""
        try:
            manifest = read_record(place / "manifest.json", "made_of", "files")
        except FoldwiseError as fault:
            raise InvalidCheckpoint(str(fault).partition(";")[0]) from fault
        differing = differences(manifest["made_of"], self.made_of)
        if differing:
            raise FoldwiseError(
                f"{shown(place)} was made of something else ({differing}); undo the change, or delete "
                f"{shown(self.folder)} to train this fold from its start"
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
        """Removes one, its manifest first, so that a half removed one is none."""
        (place / "manifest.json").unlink(missing_ok=True)
        shutil.rmtree(place, ignore_errors=True)

    def discard(self) -> None:
        """Removes all of them, once the fold is trained."""
        shutil.rmtree(self.folder, ignore_errors=True)


def require_room(folder: Path, training: Training) -> None:
    """Raises FoldwiseError before the first step rather than after hours: when the disk has no room for what a fold
    keeps: two checkpoints and one that is being written, each with weights and moments."""
    weights = sum(tensor.numel() * tensor.element_size() for tensor in training.module.state_dict().values())
    needed = 4 * weights * (KEEP + 1)  # the weights, their average, two moments
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise FoldwiseError(
            f"the disk is full: {shown(folder)} has {free / 1e6:,.0f} MB free and its checkpoints may take "
            f"{needed / 1e6:,.0f} MB; free some space and run the same command again"
        )
