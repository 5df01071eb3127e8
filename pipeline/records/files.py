"""Files that appear whole or not at all, and the identity of their content."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Gives a temporary path beside ``path`` to write to; on leaving it is synced and takes the final name.

    An error or an interrupt inside leaves the old file as it was and no temporary file behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last, since some writers choose the format by it.
    temporary = path.with_name(f".{path.stem}.tmp{os.getpid()}{path.suffix}")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        error.filename = error.filename or str(path)  # a failed write does not know whose it was
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def locked(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Keeps other processes out while it is held; calls ``waiting`` before it waits for one of them.

    The system lets go of the lock when its owner dies. Windows has no such lock, and none is taken there: what is
    done under it must be harmless to do twice.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                waiting()
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text with LF line ends, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, content: Any) -> None:
    """Writes readable JSON atomically."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Reads a JSON file of ours."""
    return json.loads(path.read_text(encoding="utf-8"))


def fingerprint(content: Path | bytes | str | Any) -> str:
    """sha256 (hex) of a file's bytes, of bytes, of text, or of anything that JSON can say."""
    if isinstance(content, Path):
        with content.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    if not isinstance(content, bytes | str):
        content = json.dumps(content, sort_keys=True)
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()
