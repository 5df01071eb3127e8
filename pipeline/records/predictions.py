"""Saves and loads predictions together with their ids, for one fold or a whole run.

Legend: N rows, C targets.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.records.tables import require_same_ids
from pipeline.system.errors import InputError, StaleError
from pipeline.system.files import atomic_path, fingerprint
from pipeline.system.places import shown


@dataclass(frozen=True)
class Predictions:
    """The content of oof.npz or test.npz.

    image_ids: (N,) str
    target_names: (C,) str
    predictions: (N, C) float32
    """

    image_ids: np.ndarray
    target_names: np.ndarray
    predictions: np.ndarray

    def save(self, path: Path) -> str:
        """Writes an .npz file atomically and returns its sha256; raises FoldwiseError for NaN or infinite values."""
        if not np.isfinite(self.predictions).all():
            row = int((~np.isfinite(self.predictions)).any(axis=1).argmax())
            raise InputError(
                f"the prediction of '{self.image_ids[row]}' is not a number: the training diverged; "
                "lower lr and train again"
            )
        arrays = {"image_ids": self.image_ids, "target_names": self.target_names, "predictions": self.predictions}
        with atomic_path(path) as temporary:
            np.savez(temporary, **arrays)  # type: ignore[arg-type]
        return fingerprint(path)

    @classmethod
    def load(cls, path: Path, sha256: str, advice: str) -> Predictions:
        """Reads a file of ``save``; raises FoldwiseError if it is damaged or its sha256 differs.

        advice: end of the message
        """
        try:
            if fingerprint(path) != sha256:
                raise ValueError("it has changed since it was written")
            with np.load(path, allow_pickle=False) as file:
                return cls(file["image_ids"], file["target_names"], file["predictions"])
        except FileNotFoundError as error:
            raise StaleError(f"there is no {shown(path)}; {advice}") from error
        except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise StaleError(f"{shown(path)} is damaged ({error}); {advice}") from error

    def aligned(self, ids: pd.Series, target_names: list[str], source: str, advice: str) -> np.ndarray:
        """Predictions (N, C) float64 in the order of ``ids`` (N,).

        Raises FoldwiseError if the ids or the target names are not the expected ones.

        source: what the predictions are from; start of the message
        advice: end of the message
        """
        if list(self.target_names) != target_names:
            raise StaleError(
                f"{source} contains the classes {', '.join(self.target_names)}, not {', '.join(target_names)}; {advice}"
            )
        require_same_ids(ids, self.image_ids, source, advice)
        order = pd.Index(self.image_ids).get_indexer(ids)
        return self.predictions[order].astype(np.float64)
