"""Files appear completely or not at all."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from pipeline.records.paths import Paths
from pipeline.system.files import (
    atomic_path,
    delete_left_behind,
    fingerprint,
    temporary_beside,
    write_text,
)
from pipeline.system.processes import HOST
from tests.conftest import Stage


def test_an_error_while_writing_keeps_the_old_file_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    write_text(path, "old")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half of the n")
        raise RuntimeError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    assert fingerprint(path) == fingerprint("old") == fingerprint(b"old")


def test_stale_temporary_files(shapes: Paths, stage: Stage) -> None:
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
    delete_left_behind([home])
    assert not elsewhere.exists()
