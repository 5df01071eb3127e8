"""The launcher of ranks ends as its ranks do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from pipeline.records.paths import Paths
from pipeline.system import places
from pipeline.system.places import CHECKOUT
from pipeline.system.signals import STOPPED
from tests.checkouts import heed_signals
from tests.conftest import wait_for


def test_the_launcher_ends_as_its_ranks_do(split: Paths) -> None:
    """One sentence, from the rank that knows."""
    command = [sys.executable, "-m", "pipeline.tools.ranks", "2", "train", "--competition", "shapes", "--fold", "0"]
    environment = {**os.environ, "FOLDWISE_ROOT": str(places.ROOT)}
    picture = split.home / "raw" / "train" / "circle_0.png"
    started = subprocess.Popen(
        [*command, "--set", "epochs=2000"], cwd=CHECKOUT, env=environment, stderr=subprocess.PIPE, text=True,
        preexec_fn=heed_signals,
    )  # fmt: skip
    folder = split.fold("tiny~epochs=2000", 0)
    wait_for(lambda: list(folder.glob("checkpoints/*/manifest.json")), started)
    started.send_signal(signal.SIGINT)
    _, said = started.communicate(timeout=60)
    assert started.returncode == STOPPED and said.startswith("\nstopped by SIGINT; ") and said.count("\n") == 2

    picture.write_bytes(b"")
    for cache in split.cache.glob("*"):
        cache.unlink()
    ended = subprocess.run([*command], cwd=CHECKOUT, env=environment, capture_output=True, text=True)
    assert ended.returncode == 1 and ended.stderr.count("error: ") == 1
    assert "circle_0.png has changed since the manifest was made" in ended.stderr
