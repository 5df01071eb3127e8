"""Opens archives: zip, tar and 7z, also split into several files. Lists their members, and streams them to files."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import shutil
import tarfile
import zipfile
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from pipeline.formats.listing import SEVEN_ZIP, volumes_of, whole_name
from pipeline.system.errors import InputError
from pipeline.system.extras import imported
from pipeline.system.places import shown

#: Largest number of files in an archive, and of bytes that the tar reader may take into memory at once.
MAX_MEMBERS, MAX_READ = 3_000_000, 4_000_000


#: Functions that open a compressed file, by the endings of the names of archives.
DECOMPRESSORS: dict[str, Callable[[Any], Any]] = {"gz": gzip.open, "bz2": bz2.open, "xz": lzma.open}
DECOMPRESSORS |= {"tbz2": bz2.open, "txz": lzma.open}


class Member(NamedTuple):
    """A file in an archive.

    name: its path in the archive
    size: its unpacked size in bytes, as the archive states it
    """

    name: str
    size: int


class Target:
    """A file that a member is written to. Raises FoldwiseError if it gets another number of bytes than was stated."""

    def __init__(self, path: Path, member: Member, archive: Path) -> None:
        self.path, self.member, self.archive = path, member, archive
        self.written = 0
        self.file: Any = None

    def write(self, data: bytes | bytearray | memoryview) -> int:
        self.file = self.file or self.path.open("wb")
        self.written += len(data)
        if self.written > self.member.size:
            self.fail()
        return self.file.write(data)

    def close(self) -> None:
        """Ends the file; an empty member has no write."""
        self.file = self.file or self.path.open("wb")
        self.file.close()
        if self.written != self.member.size:
            self.fail()

    def fail(self) -> None:
        self.file.close()
        raise InputError(
            f"{shown(self.archive)}: '{self.member.name}' does not have the size that the archive states; download it "
            "again"
        )


class Archive(NamedTuple):
    """An open archive.

    members: its files
    write_all: writes all of them to the Target that it asks for: ``write_all(target_of)``
    """

    members: list[Member]
    write_all: Callable[[Callable[[Member], Target]], None]


class Joined(io.RawIOBase):
    """The parts of a split file, as one file to read."""

    def __init__(self, paths: list[Path], opened: ExitStack) -> None:
        self.files = [opened.enter_context(path.open("rb")) for path in paths]
        self.starts = [0]
        for path in paths:
            self.starts.append(self.starts[-1] + path.stat().st_size)
        self.position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self.position, io.SEEK_END: self.starts[-1]}[whence]
        self.position = max(0, base + offset)
        return self.position

    def readinto(self, buffer: Any) -> int:
        if self.position >= self.starts[-1] or not len(buffer):
            return 0
        part = bisect_right(self.starts, self.position) - 1
        self.files[part].seek(self.position - self.starts[part])
        data = self.files[part].read(min(len(buffer), self.starts[part + 1] - self.position))
        buffer[: len(data)] = data
        self.position += len(data)
        return len(data)


class Guarded:
    """A file whose single reads are limited: the headers of a tar are read into memory, as large as they state."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def read(self, size: int = -1) -> bytes:
        if size < 0 or size > MAX_READ:
            raise tarfile.ReadError(f"it has a header of {size:,} bytes")
        return self.file.read(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


@contextmanager
def opened_archive(path: Path) -> Iterator[Archive]:
    """Context that gives an open archive; raises FoldwiseError if it holds a link, a device, or too many files."""
    parts = volumes_of(path)
    name = whole_name(path.name, ".001").lower()
    with ExitStack() as opened:
        file: BinaryIO
        if len(parts) > 1:
            file = opened.enter_context(io.BufferedReader(Joined(parts, opened), 1 << 20))
        else:
            file = opened.enter_context(path.open("rb"))
        if name.endswith(".zip"):
            yield zip_archive(path, file, parts, opened)
        elif name.endswith(SEVEN_ZIP):
            yield seven_zip_archive(path, file, opened)
        else:
            yield tar_archive(path, file, name, opened)


def zip_archive(path: Path, file: BinaryIO, parts: list[Path], opened: ExitStack) -> Archive:
    """The files of a zip archive."""
    archive = opened.enter_context(zipfile.ZipFile(file))
    files = [info for info in archive.infolist() if not info.is_dir()]
    require_few(path, len(files))
    for info in files:
        if (info.external_attr >> 16) & 0o170000 == 0o120000:
            refuse(path, "a link", info.filename)
    if len(parts) > 1 and not path.name.endswith(".001"):  # the offsets count from the start of the part of each file
        starts = [sum(part.stat().st_size for part in parts[:number]) for number in range(len(parts))]
        for info in files:
            info.header_offset += starts[min(info.volume, len(starts) - 1)] - starts[-1]

    members = [Member(info.filename, info.file_size) for info in files]

    def write_all(target_of: Callable[[Member], Target]) -> None:
        for info, member in zip(files, members, strict=True):
            with archive.open(info) as source:
                copy(source, target_of(member))

    return Archive(members, write_all)


def tar_archive(path: Path, file: BinaryIO, name: str, opened: ExitStack) -> Archive:
    """The files of a tar archive, whose compression shows in its name."""
    decompress = next((opener for ending, opener in DECOMPRESSORS.items() if name.endswith(ending)), None)
    stream = file if decompress is None else opened.enter_context(decompress(file))
    tar = opened.enter_context(tarfile.TarFile(fileobj=Guarded(stream)))
    entries = []
    for entry in tar:
        if not entry.isdir():
            if not entry.isfile():
                refuse(path, "a link or device", entry.name)
            entry.pax_headers = {}  # they are not needed any more, and may be large
            entries.append(entry)
            require_few(path, len(entries))

    members = [Member(entry.name, entry.size) for entry in entries]

    def write_all(target_of: Callable[[Member], Target]) -> None:
        for entry, member in zip(entries, members, strict=True):
            source = tar.extractfile(entry)
            assert source is not None  # all entries are regular files
            with source:
                copy(source, target_of(member))

    return Archive(members, write_all)


def seven_zip_archive(path: Path, file: BinaryIO, opened: ExitStack) -> Archive:
    """The files of a 7z archive."""
    py7zr = imported("py7zr", f"{shown(path)} is a 7z archive")
    archive = opened.enter_context(py7zr.SevenZipFile(file))
    infos = [info for info in archive.list() if not info.is_directory]
    require_few(path, len(infos))
    for info in infos:
        if not info.is_file:
            refuse(path, "a link or device", info.filename)

    members = [Member(info.filename, info.uncompressed) for info in infos]

    class ToTarget(py7zr.io.Py7zIO):  # type: ignore[name-defined]
        """What py7zr writes a file to."""

        def __init__(self, target: Target) -> None:
            self.target = target

        def write(self, s: bytes | bytearray) -> int:
            return self.target.write(s)

        def close(self) -> None:
            self.target.close()

        def size(self) -> int:
            return self.target.written

        def read(self, size: int | None = None) -> bytes:
            return b""

        def seek(self, offset: int, whence: int = 0) -> int:
            return 0

        def flush(self) -> None:
            pass

    def write_all(target_of: Callable[[Member], Target]) -> None:
        base = Path(path.anchor or "/") / "x"  # py7zr joins it to each name
        by_path = {(base / member.name).as_posix(): member for member in members}

        class Factory(py7zr.io.WriterFactory):  # type: ignore[name-defined]
            """What py7zr asks for the place of a file."""

            def create(self, filename: str) -> ToTarget:
                return ToTarget(target_of(by_path.pop(filename)))

        archive.extractall(base, factory=Factory())
        for member in by_path.values():  # py7zr writes nothing for an empty file
            target_of(member).close()

    return Archive(members, write_all)


def copy(source: Any, target: Target) -> None:
    """Copies a member to its place."""
    try:
        shutil.copyfileobj(source, target, 1 << 20)
    finally:
        if target.file is not None:
            target.file.close()
    target.close()


def require_few(path: Path, number: int) -> None:
    """Raises FoldwiseError if an archive has too many files."""
    if number > MAX_MEMBERS:
        raise InputError(f"{shown(path)} holds more than {MAX_MEMBERS:,} files; unpack it yourself into raw/")


def refuse(path: Path, what: str, name: str) -> None:
    """Raises FoldwiseError for a member that is not a file."""
    raise InputError(f"{shown(path)} holds {what}, '{name}'; unpack it yourself into raw/")
