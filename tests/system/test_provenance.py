"""Where a result came from."""

from __future__ import annotations

import json
import platform
import subprocess
import sys

import torch

from pipeline.system.places import CHECKOUT
from pipeline.system.provenance import commit, provenance


def test_it_names_versions_and_the_commit() -> None:
    found = provenance()
    assert found["python"] == platform.python_version()
    assert torch.__version__.startswith(found["packages"]["torch"].partition("+")[0])
    assert found["command"].startswith("python") and sys.executable not in found["command"]
    asked = subprocess.run(["git", "rev-parse", "HEAD"], cwd=CHECKOUT, capture_output=True, text=True)
    if asked.returncode == 0:
        assert str(commit()).removesuffix("+changes") == asked.stdout.strip()
    json.dumps(found)
