"""Predictions that carry their ids: oof.npz and test.npz of a fold."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.records.errors import FoldwiseError
from pipeline.records.files import atomic_path, fingerprint
from pipeline.records.paths import shown


@dataclass(frozen=True)
class Predictions:
    """image_ids (N,) str; class_names (C,) str; probs (N, C) float32, rows that sum to 1."""

    image_ids: np.ndarray
    class_names: np.ndarray
    probs: np.ndarray

    def save(self, path: Path) -> str:
        """Writes an .npz atomically and returns its sha256; raises FoldwiseError rather than save what is not a
        probability."""
        if not np.isfinite(self.probs).all():
            row = int((~np.isfinite(self.probs)).any(axis=1).argmax())
            raise FoldwiseError(
                f"the prediction of '{self.image_ids[row]}' is not a number: the training diverged; "
                "lower lr and train again"
            )
        with atomic_path(path) as temporary:
            np.savez(temporary, image_ids=self.image_ids, class_names=self.class_names, probs=self.probs)
        return fingerprint(path)

    @classmethod
    def load(cls, path: Path, sha256: str) -> Predictions:
        """Reads a file of ``save``; raises FoldwiseError when it is not the one of this sha256."""
        try:
            if fingerprint(path) != sha256:
                raise ValueError("it has changed since it was written")
            with np.load(path, allow_pickle=False) as file:
                loaded = cls(file["image_ids"], file["class_names"], file["probs"])
        except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise FoldwiseError(
                f"{shown(path)} is damaged ({error}); delete predicted.json beside it and type the same again"
            ) from error
        return loaded
