"""Writes files completely or not at all, and checks their content by sha256."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pipeline.system.errors import StaleError
from pipeline.system.places import shown
from pipeline.system.processes import HOST, is_alive, start_time_of

#: Name of a temporary file or folder: a dot, its final name, and the host, PID and start time of its process. The
#: suffix stays last, since some writers choose the format by it.
_TEMPORARY = re.compile(r"\..+\.tmp-(?P<host>[\w-]+)-(?P<pid>\d+)-(?P<start>\d*)(\.\w+)?")
#: Largest number of characters of the final name in the name of a temporary file.
LONGEST_STEM = 40
#: Seconds after which a temporary file of another machine counts as left behind.
_STALE_SECONDS = 24 * 3600


def temporary_beside(path: Path) -> Path:
    """Temporary path for what will be ``path``: in the same folder, so that a rename moves it into place."""
    pid = os.getpid()
    return path.with_name(f".{path.stem[:LONGEST_STEM]}.tmp-{HOST}-{pid}-{start_time_of(pid)}{path.suffix}")


def is_left_behind(path: Path) -> bool:
    """True if this is a temporary file or folder of Foldwise whose process is dead.

    On another machine, the process counts as dead if the file has not changed for a day.
    """
    name = _TEMPORARY.fullmatch(path.name)
    if name is None:
        return False
    if name["host"] == HOST:
        return not is_alive(int(name["pid"]), name["start"])
    return time.time() - path.stat().st_mtime > _STALE_SECONDS


def delete_left_behind(folders: list[Path]) -> None:
    """Deletes the temporary files that dead processes left in these folders."""
    for folder in folders:
        for path in folder.glob(".*.tmp-*"):
            with suppress(FileNotFoundError):  # another stage may delete it at the same time
                if is_left_behind(path):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()


def sync_folder(folder: Path) -> None:
    """Makes a rename in the folder survive a power failure; does nothing on Windows, which has no such call."""
    if os.name != "posix":
        return
    opened = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems do not support it
            os.fsync(opened)
    finally:
        os.close(opened)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Context that gives a temporary path beside ``path``; at its end, the file is synced and renamed to ``path``.

    After an error or an interrupt, the old file is unchanged and the temporary file is deleted.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        error.filename = error.filename or str(path)  # the error of a failed write has no file name
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text with LF line ends, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, content: Any) -> None:
    """Writes readable JSON atomically."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def write_record(path: Path, content: dict[str, Any]) -> None:
    """Writes JSON together with its sha256, which ``read_record`` checks."""
    content = json.loads(json.dumps(content))
    write_json(path, {**content, "sha256_of_this": fingerprint(content)})


def read_record(path: Path, *keys: str) -> dict[str, Any]:
    """Reads a file of ``write_record``; raises FoldwiseError if its sha256 is wrong or one of ``keys`` is missing."""
    content = read_json(path, "sha256_of_this", *keys)
    if content.pop("sha256_of_this") != fingerprint(content):
        raise StaleError(
            f"{shown(path)} is damaged (it has changed since it was written); delete it and run the same command again"
        )
    return content


def read_json(path: Path, *keys: str) -> dict[str, Any]:
    """Reads a JSON object from a file of Foldwise; raises FoldwiseError if it is damaged or lacks one of ``keys``."""
    try:
        if path.exists() and not path.is_file():  # reading a pipe would never end
            raise ValueError("it is not a file")
        content = json.loads(path.read_text(encoding="utf-8"))
        missing = [key for key in keys if key not in content]
        if missing or not isinstance(content, dict):
            raise ValueError(f"it has no '{missing[0]}'" if missing else "it is not a JSON object")
        return content
    except (ValueError, TypeError, RecursionError) as error:
        raise StaleError(f"{shown(path)} is damaged ({error}); delete it and run the same command again") from error


def fingerprint(content: Path | bytes | memoryview | str | Any) -> str:
    """sha256 (hex) of a file's bytes, of bytes, of text, or of any value that JSON can hold."""
    if isinstance(content, Path):
        with content.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    if not isinstance(content, bytes | memoryview | str):
        content = json.dumps(content, sort_keys=True)
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()
