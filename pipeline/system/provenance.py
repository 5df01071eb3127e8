"""Collects where a result comes from: versions, commit, command, hardware."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import subprocess
import sys
from typing import Any

from pipeline.system.files import fingerprint
from pipeline.system.places import CHECKOUT

PACKAGES = ["torch", "torchvision", "timm", "albumentations", "opencv-python", "scikit-learn", "pandas", "numpy"]
#: Other distributions of the same package, one of which a machine may have in its place.
INSTEAD = {
    "opencv-python": ["opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless"],
}


def version_of(package: str) -> str | None:
    """The installed version of a package, or of what stands in its place (``INSTEAD``); None without its metadata."""
    for name in (package, *INSTEAD.get(package, [])):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(name)
    return None


def commit() -> str | None:
    """The commit of the checkout, with ``+changes`` if files differ from it; None if git or a repository is missing."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty=+changes", "--abbrev=40", "--exclude=*"],
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip()


def code_sha256() -> str:
    """sha256 of all Python files of pipeline/; a commit does not tell apart two states with changes."""
    files = sorted((CHECKOUT / "pipeline").rglob("*.py"))
    return fingerprint({path.relative_to(CHECKOUT).as_posix(): fingerprint(path) for path in files})


def provenance() -> dict[str, Any]:
    """The facts that are needed to reproduce a result, as values for JSON."""
    return {
        "command": " ".join(["python", *sys.orig_argv[1:]]),
        "commit": commit(),
        "code_sha256": code_sha256(),
        "python": platform.python_version(),
        "packages": {name: version_of(name) for name in PACKAGES},
        "system": platform.platform(),
        "cpus": os.cpu_count(),
    }
