"""Files appear whole or not at all; predictions carry their ids."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.records.predictions import Predictions
from pipeline.records.tables import read_csv
from pipeline.system.errors import FoldwiseError
from pipeline.system.files import atomic_path, fingerprint, write_text


def test_an_error_while_writing_keeps_the_old_file_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    write_text(path, "old")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half of the n")
        raise RuntimeError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    assert fingerprint(path) == fingerprint("old") == fingerprint(b"old")


def test_predictions_come_back_as_they_were_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "oof.npz"
    saved = Predictions(np.array(["7", "007", "größe"]), np.array(["a", "b"]), np.full((3, 2), 0.5, np.float32))
    sha256 = saved.save(path)
    loaded = Predictions.load(path, sha256, "make it again")
    assert list(loaded.image_ids) == ["7", "007", "größe"]
    np.testing.assert_array_equal(loaded.predictions, saved.predictions)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(FoldwiseError, match="is damaged"):
        Predictions.load(path, sha256, "make it again")
    with pytest.raises(FoldwiseError, match="the prediction of '007' is not a number"):
        probs = np.array([[0.5, 0.5], [np.nan, 0.5], [1, 0]], np.float32)
        Predictions(saved.image_ids, saved.target_names, probs).save(path)


def test_a_csv_is_read_as_text(tmp_path: Path) -> None:
    path = tmp_path / "ids.csv"
    path.write_text('\ufeffid,label\n007,NA\n1e5,\n"a,b","say ""x"""\n', encoding="utf-8")
    table = read_csv(path, ["id"])
    assert list(table["id"]) == ["007", "1e5", "a,b"] and list(table["label"]) == ["NA", "", 'say "x"']
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FoldwiseError, match="not a readable CSV"):
        read_csv(path)
    path.write_bytes(b"")
    with pytest.raises(FoldwiseError, match="not a readable CSV"):
        read_csv(path)
