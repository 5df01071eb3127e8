"""Remembers the sha256 of files, so that a file is read again only after it has changed.

The method is that of git's index (git-scm.com/docs/racy-git). A remembered hash is valid only while size, mtime, ctime
and inode are unchanged, and only if the file is older than the time at which hashing began: a file written in the same
tick of the file system's clock can change again while all four stay the same. Standard library only.
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

    It is only a cache: if it is lost, damaged or overwritten, files are hashed again, and the hashes stay correct. An
    Index checks each file once; make a new one after other processes have written files.

    path: the index file
    home_prefix, root_prefix: start of the paths of files below ``home``, and below the folder of data/ and submissions/
    began: time of the file system in ns before the first file was hashed; 0 before that
    has_new: True if there are new hashes to save
    checked: sha256 of the files that were asked for, by key; None if there is no readable regular file
    known: signature and sha256 of the remembered files, by key
    """

    def __init__(self, home: Path) -> None:
        self.path = home / NAME
        self.home_prefix, self.root_prefix = f"{home}{os.sep}", f"{home.parents[1]}{os.sep}"
        self.began = 0
        self.has_new = False
        self.checked: dict[str, str | None] = {}
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
        """The name of a file in records.

        It is relative to the competition's folder if the file is below the folder of data/ and submissions/, so that a
        checkout can be moved; else absolute.
        """
        name = os.fspath(file)
        if name.startswith(self.home_prefix):
            return name[len(self.home_prefix) :]
        if name.startswith(self.root_prefix):
            return f"../../{name[len(self.root_prefix) :]}"
        return name

    def name(self, key: str) -> str:
        """The path of the file with this key, as text."""
        if key.startswith("../../"):
            return self.root_prefix + key[len("../../") :]
        return os.path.join(self.home_prefix, key)  # an absolute name stays unchanged

    def file(self, key: str) -> Path:
        """As ``name``, but a Path."""
        return Path(self.name(key))

    def signature(self, file: str | Path) -> Signature | None:
        """Size, times and inode of a file, which show if it has changed; None if there is no regular file."""
        try:
            found = os.stat(file)
        except OSError:
            return None
        if not stat.S_ISREG(found.st_mode):  # reading a pipe or a device might never end
            return None
        return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino

    def sha256(self, file: str | Path) -> str | None:
        """sha256 of the file's content, remembered or computed now; None if there is no readable regular file."""
        return self._sha256(self.key(file), file)

    def _sha256(self, key: str, file: str | Path) -> str | None:
        if key not in self.checked:
            signature = self.signature(file)
            known = self.known.get(key)
            if signature is None:
                self.checked[key] = None
            elif known is not None and known[0] == signature:
                self.checked[key] = known[1]
            else:
                self.begin()
                try:
                    self.checked[key] = sha256 = fingerprint(Path(file))
                    self.remember(file, signature, sha256)
                except OSError:
                    self.checked[key] = None
        return self.checked[key]

    def hashes(self, files: Iterable[str | Path]) -> dict[str, str | None]:
        """sha256 of each file, by its key."""
        return {(key := self.key(file)): self._sha256(key, file) for file in files}

    def hashes_of(self, keys: Iterable[str]) -> dict[str, str | None]:
        """sha256 of the file of each key, by the key."""
        return {key: self._sha256(key, self.name(key)) for key in keys}

    def remember(self, file: str | Path, signature: Signature | None, sha256: str) -> None:
        """Adds the hash of a file that was read elsewhere, if the file still has this signature.

        Call ``begin`` before the first of these files is read.
        signature: that of the file before it was read
        """
        key = self.key(file)
        if signature is not None and self.signature(file) == signature:
            self.known[key] = signature, sha256
            self.has_new = True

    def begin(self) -> None:
        """Records the time of the file system, once, before the first file is hashed."""
        if self.began:
            return
        with suppress(OSError):
            probe = temporary_beside(self.path)
            probe.touch()
            self.began = probe.stat().st_mtime_ns
            probe.unlink()

    def save(self) -> None:
        """Writes the index atomically if there are new hashes; does nothing if the folder cannot be written."""
        if not self.has_new or not self.began:
            return
        if len(self.known) > 2 * len(self.checked) + 1000:  # many of these files may be deleted
            self.known = {
                key: kept for key, kept in self.known.items() if key in self.checked or self.file(key).exists()
            }
        files = {key: [*signature, sha256] for key, (signature, sha256) in self.known.items()}
        temporary = temporary_beside(self.path)
        with suppress(OSError):
            try:
                temporary.write_text(json.dumps({"began": self.began, "files": files}), encoding="utf-8")
                temporary.replace(self.path)
            finally:
                temporary.unlink(missing_ok=True)
        self.has_new = False
