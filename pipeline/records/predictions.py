"""Predictions that carry their ids: oof.npz and test.npz of a fold."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.records.errors import FoldwiseError
from pipeline.records.files import atomic_path
from pipeline.records.paths import shown


@dataclass(frozen=True)
class Predictions:
    """image_ids (N,) str; class_names (C,) str; probs (N, C) float32, rows that sum to 1."""

    image_ids: np.ndarray
    class_names: np.ndarray
    probs: np.ndarray

    def save(self, path: Path) -> None:
        """Writes an .npz atomically; raises FoldwiseError rather than save what is not a probability."""
        if not np.isfinite(self.probs).all():
            row = int((~np.isfinite(self.probs)).any(axis=1).argmax())
            raise FoldwiseError(
                f"the prediction of '{self.image_ids[row]}' is not a number: the training diverged; "
                "lower lr and train again"
            )
        with atomic_path(path) as temporary:
            np.savez(temporary, image_ids=self.image_ids, class_names=self.class_names, probs=self.probs)

    @classmethod
    def load(cls, path: Path) -> Predictions:
        """Reads and checks a file of ``save``; raises FoldwiseError when it is damaged."""
        try:
            with np.load(path, allow_pickle=False) as file:
                loaded = cls(file["image_ids"], file["class_names"], file["probs"])
        except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise FoldwiseError(f"{shown(path)} is damaged ({error}); delete it and predict that fold again") from error
        expected = (len(loaded.image_ids), len(loaded.class_names))
        if loaded.probs.shape != expected or not np.allclose(loaded.probs.sum(axis=1), 1, atol=1e-3):
            raise FoldwiseError(
                f"{shown(path)} does not hold probabilities of {expected[0]} rows by {expected[1]} "
                "classes; delete it and predict that fold again"
            )
        return loaded
