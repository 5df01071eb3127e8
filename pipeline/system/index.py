"""The sha256 of files, remembered by size, times and inode, so that a file is read again only after it has changed.

The method is that of git's index (git-scm.com/docs/racy-git): a remembered hash counts only while size, mtime, ctime
and inode are the same, and only if the file is older than the moment at which hashing began: a file written in the same
tick of the file system's clock can change again without any of them showing it. Standard library only.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from pipeline.system.files import fingerprint, temporary_beside

NAME = ".index.json"
#: (size in bytes, mtime in ns, ctime in ns, inode)
Signature = tuple[int, int, int, int]


class Index:
    """Remembered hashes of files, in ``.index.json`` of the folder ``home`` (that of a competition).

    It is only a memory: a lost, damaged or overwritten file costs time, never a wrong answer. A process asks about each
    file once; make a new index after other processes have written files.
    """

    def __init__(self, home: Path) -> None:
        self.path = home / NAME
        self.inside, self.beside = f"{home}{os.sep}", f"{home.parents[1]}{os.sep}"
        self.began = 0
        self.learned = False
        self.asked: dict[str, str | None] = {}
        self.known: dict[str, tuple[Signature, str]] = {}
        with suppress(OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
            if not self.path.is_file():
                return
            content = json.loads(self.path.read_text(encoding="utf-8"))
            before = int(content["began"])
            # Files that changed after hashing began are not remembered: they are hashed again.
            self.known = {
                key: ((size, mtime, ctime, inode), sha256)
                for key, (size, mtime, ctime, inode, sha256) in content["files"].items()
                if mtime < before and ctime < before
            }

    def key(self, file: str | Path) -> str:
        """The file's name in records: relative to the competition's folder where the file is below data/ or
        submissions/, so that a checkout can be moved; else absolute."""
        name = os.fspath(file)
        if name.startswith(self.inside):
            return name[len(self.inside) :]
        if name.startswith(self.beside):
            return f"../../{name[len(self.beside) :]}"
        return name

    def name(self, key: str) -> str:
        """The file of a key."""
        if key.startswith("../../"):
            return self.beside + key[len("../../") :]
        return os.path.join(self.inside, key)  # which leaves an absolute name as it is

    def file(self, key: str) -> Path:
        """The file of a key, as a path."""
        return Path(self.name(key))

    def signature(self, file: str | Path) -> Signature | None:
        """What tells one state of a file from another; None if there is no regular file."""
        try:
            found = os.stat(file)
        except OSError:
            return None
        if not stat.S_ISREG(found.st_mode):  # a pipe or a device would never end
            return None
        return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino

    def sha256(self, file: str | Path) -> str | None:
        """The hash of the file's content, remembered or made now; None if there is no regular file that can be read."""
        return self._sha256(self.key(file), file)

    def _sha256(self, key: str, file: str | Path) -> str | None:
        if key not in self.asked:
            signature = self.signature(file)
            known = self.known.get(key)
            if signature is None:
                self.asked[key] = None
            elif known is not None and known[0] == signature:
                self.asked[key] = known[1]
            else:
                self.begin()
                try:
                    self.asked[key] = sha256 = fingerprint(Path(file))
                    self.remember(file, signature, sha256)
                except OSError:
                    self.asked[key] = None
        return self.asked[key]

    def hashes(self, files: Iterable[str | Path]) -> dict[str, str | None]:
        """The hash of each file, by its key."""
        return {(key := self.key(file)): self._sha256(key, file) for file in files}

    def hashes_of(self, keys: Iterable[str]) -> dict[str, str | None]:
        """The hash of the file of each key, by that."""
        return {key: self._sha256(key, self.name(key)) for key in keys}

    def remember(self, file: str | Path, signature: Signature | None, sha256: str) -> None:
        """Takes in a hash that was made elsewhere, of a file that had this signature before it was read; call ``begin``
        before the first of them."""
        key = self.key(file)
        if signature is not None and self.signature(file) == signature:
            self.known[key] = signature, sha256
            self.learned = True

    def begin(self) -> None:
        """Notes the file system's time before the first file is hashed."""
        if self.began:
            return
        with suppress(OSError):
            probe = temporary_beside(self.path)
            probe.touch()
            self.began = probe.stat().st_mtime_ns
            probe.unlink()

    def save(self) -> None:
        """Writes what was learned, whole or not at all. A folder that cannot be written keeps no memory."""
        if not self.learned or not self.began:
            return
        if len(self.known) > 2 * len(self.asked) + 1000:  # much of it is about files that may be gone
            self.known = {key: kept for key, kept in self.known.items() if key in self.asked or self.file(key).exists()}
        files = {key: [*signature, sha256] for key, (signature, sha256) in self.known.items()}
        temporary = temporary_beside(self.path)
        with suppress(OSError):
            try:
                temporary.write_text(json.dumps({"began": self.began, "files": files}), encoding="utf-8")
                temporary.replace(self.path)
            finally:
                temporary.unlink(missing_ok=True)
        self.learned = False
