"""Where a result came from."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import subprocess
import sys

import pytest
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


def test_a_machine_with_another_build_of_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on many GPU machines: opencv-python-headless, and no metadata of opencv-python."""

    def version(name: str) -> str:
        if name in ("opencv-python", "albumentations"):
            raise importlib.metadata.PackageNotFoundError(name)
        return f"version of {name}"

    monkeypatch.setattr(importlib.metadata, "version", version)
    packages = provenance()["packages"]
    assert packages["opencv-python"] == "version of opencv-python-headless"
    assert packages["torch"] == "version of torch" and packages["albumentations"] is None
