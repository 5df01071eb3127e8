"""Unpacking archives that strangers made: every name and size is checked before a byte is written."""

from __future__ import annotations

import gzip
import lzma
import shutil
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from pipeline.formats.listing import ARCHIVES, is_archive
from pipeline.system.errors import FoldwiseError
from pipeline.system.places import shown

#: An image archive hardly shrinks; a thousandfold growth is a bomb (tar gives no packed size of its own).
MAX_GROWTH = 1000


class Member(NamedTuple):
    """A file in an archive: its name, its unpacked size in bytes, and how to open it."""

    name: str
    size: int
    open: Callable[[], IO[bytes] | None]


@contextmanager
def _members(path: Path) -> Iterator[list[Member]]:
    """The files of an archive; raises FoldwiseError for links and devices."""
    if path.name.lower().endswith(".zip"):
        with zipfile.ZipFile(path) as archive:
            files = [info for info in archive.infolist() if not info.is_dir()]
            for info in files:
                if (info.external_attr >> 16) & 0o170000 == 0o120000:
                    raise FoldwiseError(f"{shown(path)} holds a link, '{info.filename}'; unpack it yourself into raw/")
            yield [Member(info.filename, info.file_size, partial(archive.open, info)) for info in files]
        return
    with tarfile.open(path) as tar:
        entries = [entry for entry in tar.getmembers() if not entry.isdir()]
        for entry in entries:
            if not entry.isfile():
                raise FoldwiseError(
                    f"{shown(path)} holds a link or device, '{entry.name}'; unpack it yourself into raw/"
                )
        yield [Member(entry.name, entry.size, partial(tar.extractfile, entry)) for entry in entries]


def _checked_names(path: Path, members: list[Member]) -> list[PurePosixPath]:
    """Each member's path; raises FoldwiseError for one that leaves the folder or clashes with another."""
    seen: dict[str, str] = {}
    names = []
    for member in members:
        name = PurePosixPath(member.name.replace("\\", "/"))
        if name.is_absolute() or ".." in name.parts or not name.parts or ":" in name.parts[0] or "\0" in member.name:
            raise FoldwiseError(f"{shown(path)} holds the unsafe name '{member.name}'; nothing was unpacked")
        key = unicodedata.normalize("NFC", str(name)).casefold()
        if key in seen:
            raise FoldwiseError(
                f"{shown(path)} holds two files of one name, '{seen[key]}' and '{member.name}'; nothing was unpacked"
            )
        seen[key] = member.name
        names.append(name)
    for name in names:
        above = [unicodedata.normalize("NFC", str(folder)).casefold() for folder in name.parents]
        if clash := next((seen[key] for key in above if key in seen), None):
            raise FoldwiseError(
                f"{shown(path)} holds '{clash}' both as a file and as a folder, of '{name}'; nothing was unpacked"
            )
    return names


def unpack(path: Path, folder: Path, watched: Callable[[list, str], Iterator]) -> int:
    """Unpacks an archive below ``folder`` and returns how many files it held.

    An archive with pictures at its top level (train.zip of ``1.jpg, 2.jpg, ...``) gets a folder of its own name.
    Nothing is ever written over. ``watched`` wraps the work for a progress bar: (members, what is done) -> iterator.
    Raises FoldwiseError for a damaged archive, an unsafe or repeated name, a link, a bomb, or too little disk.
    """
    try:
        with _members(path) as members:
            names = _checked_names(path, members)
            total = sum(member.size for member in members)
            if total > MAX_GROWTH * max(path.stat().st_size, 1_000_000):
                raise FoldwiseError(
                    f"{shown(path)} would unpack to {total:,} bytes, {MAX_GROWTH} times its size; nothing was unpacked"
                )
            free = shutil.disk_usage(folder).free
            if total > free:
                raise FoldwiseError(
                    f"{shown(path)} unpacks to {total / 1e9:.1f} GB but {shown(folder)} has "
                    f"{free / 1e9:.1f} GB free; free some space and run the same command again"
                )
            flat = sum(
                len(name.parts) == 1 and name.suffix.lower() not in (".csv", ".txt", ".md", ".json", *ARCHIVES)
                for name in names
            )
            base = folder / path.name.split(".")[0] if flat else folder
            for name, member in watched(list(zip(names, members, strict=True)), f"unpacking {path.name}"):
                target = base / name
                target.parent.mkdir(parents=True, exist_ok=True)
                if target.exists():
                    raise FoldwiseError(
                        f"{shown(path)} and another archive both hold '{name}'; move one of them out of raw/"
                    )
                source = member.open()
                assert source is not None  # only plain files are members
                with source, target.open("wb") as file:
                    shutil.copyfileobj(source, file)
                if target.stat().st_size != member.size:
                    raise FoldwiseError(
                        f"{shown(path)}: '{name}' is not as long as the archive says; download it again"
                    )
            return len(members)
    except (
        zipfile.BadZipFile,
        tarfile.TarError,
        zlib.error,
        lzma.LZMAError,
        gzip.BadGzipFile,
        EOFError,
        RuntimeError,
        NotImplementedError,
    ) as error:
        raise FoldwiseError(f"{shown(path)} is damaged or locked ({error}); download it again") from error


def unpack_all(archives: list[Path], folder: Path, watched: Callable[[list, str], Iterator]) -> int:
    """Unpacks archives and the archives inside them (Kaggle's outer zip); returns the number of files.

    The inner archives are removed once unpacked.
    """
    count = 0
    for archive in archives:
        before = set(folder.rglob("*"))
        count += unpack(archive, folder, watched)
        inner = sorted(path for path in folder.rglob("*") if path not in before and path.is_file() and is_archive(path))
        if inner:
            for path in inner:
                count += unpack(path, path.parent, watched) - 1
                path.unlink()
    return count
