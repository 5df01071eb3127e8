"""Unpacks untrusted archives: checks every name and size before it writes a byte."""

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
from pipeline.system.errors import InputError, MachineError
from pipeline.system.places import shown

#: Largest ratio of the unpacked size to the size of the archive. Images hardly compress, so a larger one is a bomb.
#: (The archive is checked as a whole, since tar records no packed size of a file.)
MAX_GROWTH = 1000


class Member(NamedTuple):
    """A file in an archive.

    name: its path in the archive
    size: its unpacked size in bytes
    open: function that opens it for reading
    """

    name: str
    size: int
    open: Callable[[], IO[bytes] | None]


@contextmanager
def _members(path: Path) -> Iterator[list[Member]]:
    """Context that gives the files of an open archive; raises FoldwiseError if it holds a link or a device."""
    if path.name.lower().endswith(".zip"):
        with zipfile.ZipFile(path) as archive:
            files = [info for info in archive.infolist() if not info.is_dir()]
            for info in files:
                if (info.external_attr >> 16) & 0o170000 == 0o120000:
                    raise InputError(f"{shown(path)} holds a link, '{info.filename}'; unpack it yourself into raw/")
            yield [Member(info.filename, info.file_size, partial(archive.open, info)) for info in files]
        return
    with tarfile.open(path) as tar:
        entries = [entry for entry in tar.getmembers() if not entry.isdir()]
        for entry in entries:
            if not entry.isfile():
                raise InputError(f"{shown(path)} holds a link or device, '{entry.name}'; unpack it yourself into raw/")
        yield [Member(entry.name, entry.size, partial(tar.extractfile, entry)) for entry in entries]


def _checked_names(path: Path, members: list[Member]) -> list[PurePosixPath]:
    """The path of each member; raises FoldwiseError if one leads out of the folder, or two are the same.

    Paths that differ only in case or Unicode normalization count as the same, as they do on some systems.
    """
    seen: dict[str, str] = {}
    names = []
    for member in members:
        name = PurePosixPath(member.name.replace("\\", "/"))
        if name.is_absolute() or ".." in name.parts or not name.parts or ":" in name.parts[0] or "\0" in member.name:
            raise InputError(f"{shown(path)} holds the unsafe name '{member.name}'; nothing was unpacked")
        key = unicodedata.normalize("NFC", str(name)).casefold()
        if key in seen:
            raise InputError(
                f"{shown(path)} holds two files with the same name, '{seen[key]}' and '{member.name}'; nothing was "
                "unpacked"
            )
        seen[key] = member.name
        names.append(name)
    for name in names:
        above = [unicodedata.normalize("NFC", str(folder)).casefold() for folder in name.parents]
        if clash := next((seen[key] for key in above if key in seen), None):
            raise InputError(
                f"{shown(path)} holds '{clash}' both as a file and as the folder of '{name}'; nothing was unpacked"
            )
    return names


def unpack(path: Path, folder: Path, with_progress: Callable[[list, str], Iterator]) -> int:
    """Unpacks an archive below ``folder``; returns the number of its files.

    An archive with images at its top level (train.zip with ``1.jpg, 2.jpg, ...``) gets a folder with its own name. No
    existing file is overwritten. Raises FoldwiseError for a damaged archive, an unsafe or repeated name, a link, a
    decompression bomb, or too little disk space.
    with_progress: wraps the members for a progress bar: (members, description) -> iterator
    """
    try:
        with _members(path) as members:
            names = _checked_names(path, members)
            total = sum(member.size for member in members)
            if total > MAX_GROWTH * max(path.stat().st_size, 1_000_000):
                raise InputError(
                    f"{shown(path)} would unpack to {total:,} bytes, more than {MAX_GROWTH} times its size; "
                    "nothing was unpacked"
                )
            free = shutil.disk_usage(folder).free
            if total > free:
                raise MachineError(
                    f"{shown(path)} unpacks to {total / 1e9:.1f} GB but {shown(folder)} has "
                    f"{free / 1e9:.1f} GB free; free some space and run the same command again"
                )
            flat = sum(
                len(name.parts) == 1 and name.suffix.lower() not in (".csv", ".txt", ".md", ".json", *ARCHIVES)
                for name in names
            )
            base = folder / path.name.split(".")[0] if flat else folder
            for name, member in with_progress(list(zip(names, members, strict=True)), f"unpacking {path.name}"):
                target = base / name
                target.parent.mkdir(parents=True, exist_ok=True)
                if target.exists():
                    raise InputError(
                        f"{shown(path)} and another archive both hold '{name}'; move one of them out of raw/"
                    )
                source = member.open()
                assert source is not None  # all members are regular files
                with source, target.open("wb") as file:
                    shutil.copyfileobj(source, file)
                if target.stat().st_size != member.size:
                    raise InputError(
                        f"{shown(path)}: '{name}' does not have the size that the archive states; download it again"
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
        raise InputError(f"{shown(path)} is damaged or encrypted ({error}); download it again") from error


def unpack_all(archives: list[Path], folder: Path, with_progress: Callable[[list, str], Iterator]) -> int:
    """Unpacks archives and the archives inside them (as in Kaggle's outer zip); returns the number of files.

    Each inner archive is deleted after it is unpacked.
    """
    count = 0
    for archive in archives:
        before = set(folder.rglob("*"))
        count += unpack(archive, folder, with_progress)
        inner = sorted(path for path in folder.rglob("*") if path not in before and path.is_file() and is_archive(path))
        if inner:
            for path in inner:
                count += unpack(path, path.parent, with_progress) - 1
                path.unlink()
    return count
