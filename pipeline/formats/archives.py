"""Unpacks untrusted archives: checks every name and size before it writes a byte."""

from __future__ import annotations

import gzip
import lzma
import shutil
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from pipeline.formats.containers import MAX_MEMBERS, Member, Target, opened_archive
from pipeline.formats.listing import (
    OTHER_ARCHIVES,
    PICTURES,
    SEVEN_ZIP,
    is_archive,
    is_hidden_or_system,
    volumes_of,
    whole_name,
)
from pipeline.formats.parts import MAX_GROWTH
from pipeline.system.errors import InputError, MachineError
from pipeline.system.places import is_not_utf8, shown

#: Longest name of a file or folder in bytes, on all common file systems.
MAX_NAME = 255
#: How deep archives may lie in archives.
MAX_DEPTH = 2


@dataclass
class Budget:
    """What an archive, and the archives in it, may still unpack to.

    bytes, files: how much
    unopened: archives inside that cannot be opened here, with the reason
    """

    bytes: int
    files: int = MAX_MEMBERS
    unopened: list[str] = field(default_factory=list)


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
        if is_not_utf8(member.name) or max(len(part.encode(errors="replace")) for part in name.parts) > MAX_NAME:
            raise InputError(
                f"{shown(path)} holds a name that is too long or not UTF-8 text, {member.name[:80]!a}; unpack it "
                "yourself into raw/"
            )
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


def place_of(name: PurePosixPath, path: Path) -> PurePosixPath:
    """Where a member is written: an image at the top of ``train.zip`` goes into the folder ``train``."""
    is_loose_image = len(name.parts) == 1 and name.suffix.lower() in PICTURES
    return path.name.split(".")[0] / name if is_loose_image else name


def unpack(path: Path, folder: Path, with_progress: Callable[[list, str], Iterator], budget: Budget) -> list[Path]:
    """Unpacks an archive below ``folder``; returns its files.

    Images at the top level of the archive (train.zip with ``1.jpg, 2.jpg, ...``) get a folder with its name. No
    existing file is overwritten. Raises FoldwiseError for a damaged archive, an unsafe or repeated name, a link, a
    decompression bomb, or too little disk space.
    with_progress: wraps the members for a progress bar: (members, description) -> iterator
    budget: reduced by what is unpacked
    """
    try:
        with opened_archive(path) as archive:
            names = _checked_names(path, archive.members)
            spend(budget, path, archive.members, folder)
            places = dict(zip(archive.members, (folder / place_of(name, path) for name in names), strict=True))
            bar = iter(with_progress(archive.members, f"unpacking {path.name}"))

            def target_of(member: Member) -> Target:
                place = places[member]
                place.parent.mkdir(parents=True, exist_ok=True)
                if place.exists():
                    raise InputError(
                        f"{shown(path)} and another archive both hold '{member.name}'; move one of them out of raw/"
                    )
                next(bar, None)
                return Target(place, member, path)

            archive.write_all(target_of)
            next(bar, None)  # ends the progress bar
            return list(places.values())
    except (InputError, MachineError):
        raise
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
        raise damaged(path, error) from error
    except (OSError, MemoryError):
        raise
    except Exception as error:  # for a damaged file, py7zr may raise any exception
        if path_is_seven_zip(path):
            raise damaged(path, error) from error
        raise


def damaged(path: Path, error: Exception) -> InputError:
    """The error for an archive that cannot be read."""
    reason = " ".join(str(error).split()) or type(error).__name__
    return InputError(f"{shown(path)} is damaged or encrypted ({reason}); download it again")


def path_is_seven_zip(path: Path) -> bool:
    """True if the name is that of a 7z archive."""
    return whole_name(path.name, ".001").lower().endswith(SEVEN_ZIP)


def spend(budget: Budget, path: Path, members: list[Member], folder: Path) -> None:
    """Reduces the budget by the members; raises FoldwiseError if it, or the disk, is too small for them."""
    total = sum(member.size for member in members)
    # The archive is checked as a whole, since tar records no packed size of a file.
    budget.bytes -= total
    budget.files -= len(members)
    if budget.bytes < 0:
        raise InputError(
            f"{shown(path)} would unpack to {total:,} bytes, more than {MAX_GROWTH} times its size; nothing was "
            "unpacked"
        )
    if budget.files < 0:
        raise InputError(f"{shown(path)} holds more than {MAX_MEMBERS:,} files; unpack it yourself into raw/")
    free = shutil.disk_usage(folder).free
    if total > free:
        raise MachineError(
            f"{shown(path)} unpacks to {total / 1e9:.1f} GB but {shown(folder)} has {free / 1e9:.1f} GB free; free "
            "some space and run the same command again"
        )


def unpack_all(
    archives: list[Path], folder: Path, with_progress: Callable[[list, str], Iterator], by_hand: Collection[str] = ()
) -> tuple[int, list[str]]:
    """Unpacks archives, and the archives in them (as in Kaggle's outer zip).

    Returns the number of files, and what could not be opened, in words. Each archive inside is deleted after it is
    unpacked. Raises FoldwiseError if archives lie deeper than MAX_DEPTH.

    archives: without the later parts of split ones
    by_hand: folders that the user has unpacked; a 7z archive with the name of one is left alone
    """
    count, unopened = 0, []
    for path in archives:
        if (note := reason_to_leave(path, by_hand, is_inside=False)) is not None:
            unopened.append(note)
            continue
        budget = Budget(MAX_GROWTH * max(sum(part.stat().st_size for part in volumes_of(path)), 1_000_000))
        count += unpack_nested(path, folder, with_progress, budget, by_hand)
        unopened += budget.unopened
    return count, unopened


def unpack_nested(
    path: Path,
    folder: Path,
    with_progress: Callable[[list, str], Iterator],
    budget: Budget,
    by_hand: Collection[str],
    depth: int = 0,
) -> int:
    """Unpacks an archive and those in it; returns the number of files that stay."""
    files = unpack(path, folder, with_progress, budget)
    count = len(files)
    for inner in sorted(file for file in files if is_archive(file) or file.suffix.lower() in OTHER_ARCHIVES):
        if is_hidden_or_system(inner.name) or "__MACOSX" in inner.parts:
            continue
        if (note := reason_to_leave(inner, by_hand, is_inside=True)) is not None:
            budget.unopened.append(note)
            continue
        is_tar_of_seven_zip = path_is_seven_zip(path) and inner.suffix == ".tar" and len(files) == 1
        below = depth if is_tar_of_seven_zip else depth + 1
        if below > MAX_DEPTH:
            raise InputError(
                f"{inner.name} lies in {path.name}, which is an archive in an archive in an archive; unpack the outer "
                "ones yourself into raw/"
            )
        parts = volumes_of(inner)
        count += unpack_nested(inner, inner.parent, with_progress, budget, by_hand, below) - len(parts)
        for part in parts:
            part.unlink()
    return count


def reason_to_leave(path: Path, by_hand: Collection[str], is_inside: bool) -> str | None:
    """Why an archive is not unpacked, in words; None if it is."""
    name = f"{path.name}, which lies in an archive of raw/," if is_inside else path.name
    if path.suffix.lower() in OTHER_ARCHIVES:
        return f"{name} has an unsupported format; unpack it yourself into raw/"
    if path_is_seven_zip(path) and (stem := path.name.split(".")[0]) in by_hand:
        return f"{name} is not unpacked, since raw/ has the folder {stem}/"
    return None
