"""Folders that look like a fresh checkout, and make in them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from pipeline.system.places import CHECKOUT
from pipeline.system.signals import SIGNALS

OF_MAKE = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "FOLDWISE_MAKE", "FOLDWISE_ROOT")


def heed_signals() -> None:
    """For a new process: it heeds signals even where the tests were told to ignore them, as a shell's background job
    is."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)


def environment(**more: str) -> dict[str, str]:
    """This process's environment, without what an outer make or another test put there, and with ``more``."""
    return {key: value for key, value in os.environ.items() if key not in OF_MAKE} | more


def new_checkout(folder: Path) -> Path:
    """The Makefile and the code, with the digits' facts and nothing made yet. It shares the installed packages, where
    these tests run in a .venv that make set up."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(CHECKOUT / name, folder)
    (folder / "pipeline").symlink_to(CHECKOUT / "pipeline")
    bin_folder = folder / ".venv" / "bin"
    bin_folder.mkdir(parents=True)
    (bin_folder / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (bin_folder / "python").chmod(0o755)
    (folder / ".venv" / "ready").touch()  # newer than what it was set up from
    (folder / "data" / "digits").mkdir(parents=True)
    shutil.copy(CHECKOUT / "data" / "digits" / "competition.toml", folder / "data" / "digits")
    return folder


def start_make(folder: Path, *words: str, **more: str) -> subprocess.Popen[str]:
    """``make words...`` as a process group of its own, which heeds signals."""
    return start(folder, ["make", *words], **more)


def start(folder: Path, words: list[str], **more: str) -> subprocess.Popen[str]:
    """A command as a process group of its own, which heeds signals."""
    piped: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(
        words, cwd=folder, env=environment(**more), stdin=subprocess.DEVNULL, start_new_session=True,
        preexec_fn=heed_signals, **piped,
    )  # fmt: skip


def make(folder: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    """``make words...``, to its end."""
    process = start_make(folder, *words, **more)
    out, err = process.communicate(timeout=300)
    return subprocess.CompletedProcess(["make", *words], process.returncode, out, err)


def at_work(folder: Path) -> dict[int, str]:
    """The processes whose working folder this is, with their command lines."""
    found = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            is_zombie = (place / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
            if (place / "cwd").resolve() == folder.resolve() and int(place.name) != os.getpid() and not is_zombie:
                found[int(place.name)] = (place / "cmdline").read_text().replace("\0", " ")
        except OSError:  # it has ended, or is somebody else's
            continue
    return found
