"""Lists the files of a folder, and recognizes their kind by name. Standard library only."""

from __future__ import annotations

import csv
import io
import os
import re
from contextlib import suppress
from pathlib import Path

from pipeline.system.errors import InputError
from pipeline.system.places import is_not_utf8, shown

#: Names of files and folders that operating systems create, in lower case.
SYSTEM_NAMES = {"thumbs.db", "desktop.ini", "__macosx"}

#: Image formats that are read, by Pillow's names, with their file extensions. (Pillow opens an MPO file as a JPEG.)
EXTENSIONS = {
    "JPEG": {".jpg", ".jpeg", ".jpe", ".jfif"},
    "MPO": {".jpg", ".jpeg", ".mpo"},
    "PNG": {".png"},
    "GIF": {".gif"},
    "BMP": {".bmp", ".dib"},
    "TIFF": {".tif", ".tiff"},
    "WEBP": {".webp"},
    "AVIF": {".avif"},
    "PPM": {".ppm", ".pgm", ".pbm", ".pnm", ".pfm"},
    "JPEG2000": {".jp2", ".j2k"},
}
#: Extensions of images, also of DICOM files, which are converted.
PICTURES = frozenset().union(*EXTENSIONS.values(), {".dcm", ".dicom"})

#: Extensions of image files by their first bytes.
MAGIC = {b"\xff\xd8": ".jpg", b"\x89PNG": ".png", b"GIF8": ".gif", b"BM": ".bmp", b"RIFF": ".webp", b"II*\0": ".tif"}
#: Archives that are unpacked; those of SEVEN_ZIP need an extra package.
SEVEN_ZIP = (".7z",)
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", *SEVEN_ZIP)
#: Archives that only other programs can unpack.
OTHER_ARCHIVES = (".rar", ".zst", ".lz4", ".ace", ".lzh", ".arj", ".cab")
#: The later parts of a split archive: ``x.zip.002``, or ``x.z01``, which belongs to ``x.zip``.
NUMBERED, SPANNED = re.compile(r"(.+)\.(\d{3})"), re.compile(r"(.+)\.z\d\d", re.IGNORECASE)
HDF5 = (".h5", ".hdf5")
NPZ = ".npz"
#: The files of CIFAR-10, and those of CIFAR-100, which count only beside each other.
CIFAR_NAMES = re.compile(r"data_batch_\d+|test_batch|batches\.meta")
CIFAR_100 = ("train", "test", "meta")
PARQUET = ".parquet"
#: Folder in images/ for the CSV files that are left when the pixels are taken out of tables.
TABLES = ".tables"
#: Names of columns of pixels: ``pixel0``, ``0``, ``1x1``. Fewer than MIN_PIXELS are no image.
PIXEL_NAME, MIN_PIXELS = re.compile(r"(?:pixel|pix|px|)_?\d+|\d+x\d+", re.IGNORECASE), 64
#: How much of a CSV is looked at, in bytes.
BEGINNING = 2_000_000


def is_picture(path: Path) -> bool:
    """True for the extension of an image; a file without extension is opened."""
    if path.suffix:
        return path.suffix.lower() in PICTURES
    with suppress(OSError), path.open("rb") as file:
        start = file.read(132)
        return start.startswith(tuple(MAGIC)) or start[128:] == b"DICM"
    return False


def may_hold_images(name: str) -> bool:
    """False if a file with this name is certainly neither an array file nor a table of pixels."""
    return name.lower().endswith((*HDF5, NPZ, PARQUET, ".csv")) or "." not in name or "batch" in name


def is_archive(path: Path) -> bool:
    """True if the name is that of an archive that formats/archives.py unpacks, or of the first part of a split one."""
    return whole_name(path.name, ".001").lower().endswith(ARCHIVES)


def is_volume(path: Path) -> bool:
    """True if the name is that of a later part of a split archive."""
    name = NUMBERED.fullmatch(path.name)
    if name is not None:
        return name[2] != "001" and name[1].lower().endswith(ARCHIVES)
    return SPANNED.fullmatch(path.name) is not None


def whole_name(name: str, part: str) -> str:
    """The name of an archive without the number ``part`` of a split one."""
    return name[: -len(part)] if name.endswith(part) and name[: -len(part)].lower().endswith(ARCHIVES) else name


def volumes_of(path: Path) -> list[Path]:
    """All parts of an archive in the order of their bytes; only ``path`` if it is not split.

    Raises FoldwiseError if a part between them is missing.
    """
    whole = whole_name(path.name, ".001")
    if whole != path.name:
        found = sorted(other for other in path.parent.glob("*") if other.name[:-4] == whole and is_volume(other))
        numbers = [int(other.name[-3:]) for other in found]
    else:
        stem = path.name[: -len(".zip")].lower()
        others = path.parent.glob("*") if path.name.lower().endswith(".zip") else []
        found = [other for other in others if SPANNED.fullmatch(other.name)]
        found = [other for other in found if other.name[: -len(".z01")].lower() == stem]
        found.sort(key=lambda other: int(other.name[-2:]))
        numbers = [int(other.name[-2:]) + 1 for other in found]
    expected = list(range(2, 2 + len(found)))
    if numbers != expected:
        lost = next(number for number in expected if number not in numbers)
        shift = lost if whole != path.name else lost - 1
        raise InputError(f"part {shift} of the split archive {shown(path)} is missing; put all parts into one folder")
    return [path, *found] if whole != path.name else [*found, path]


def is_array_file(path: Path) -> bool:
    """True if the name is that of a file with images as arrays (formats/arrays.py)."""
    return path.name.lower().endswith((*HDF5, NPZ)) or is_cifar_file(path)


def is_cifar_file(path: Path) -> bool:
    """True if the file is a part of CIFAR-10 or CIFAR-100 in Python's pickles."""
    if path.name in CIFAR_100:
        return path.is_file() and all((path.parent / name).is_file() for name in CIFAR_100)
    return CIFAR_NAMES.fullmatch(path.name) is not None


def is_pixel_table(path: Path) -> bool:
    """True if a file is a table whose columns, or one of them, hold the pixels of images (formats/tables.py)."""
    if path.name.lower().endswith(PARQUET):
        return path.is_file()
    if not path.name.lower().endswith(".csv") or not path.is_file():
        return False
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        try:
            lines = csv.reader(io.StringIO(file.read(BEGINNING)))
            header, row = next(lines), next(lines)
        except (StopIteration, csv.Error):
            return False
    return len(header) == len(row) and (bool(pixel_columns(header, row)) or bool(pixel_cell(header, row)))


def pixel_columns(header: list[str], row: list[str] | None = None) -> list[str]:
    """The columns that hold one pixel each, by their names; [] if the first row, if given, has mostly other values."""
    found = [name for name in header if PIXEL_NAME.fullmatch(name.strip())]
    by_name = dict(zip(header, row, strict=True)) if row is not None else {}
    values = [int(by_name[name]) for name in found if row is not None and is_pixel(by_name[name])]
    if len(found) < MIN_PIXELS or (row is not None and len(values) <= 0.9 * len(found)):
        return []
    # Columns that are only numbered may be classes, whose cells are 0 and 1.
    are_numbered = all(name.strip().isdecimal() for name in found)
    return [] if are_numbered and row is not None and max(values, default=0) <= 1 else found


def pixel_cell(header: list[str], row: list[str]) -> str:
    """The column whose cells hold all pixels of an image, separated by blanks; "" if there is none."""
    for name, cell in zip(header, row, strict=True):
        values = cell.split()
        if len(values) >= MIN_PIXELS and all(map(is_pixel, values)):
            return name
    return ""


def is_pixel(text: str) -> bool:
    """True for a whole number from 0 to 255."""
    return text.isascii() and text.isdecimal() and len(text) <= 3 and int(text) <= 255


def is_hidden_or_system(name: str) -> bool:
    """True if a file or folder of this name is hidden, or was made by the operating system."""
    return name.startswith(".") or name.lower() in SYSTEM_NAMES


def list_files(folder: Path) -> list[str]:
    """The names of all files in a folder and its subfolders, as sorted POSIX paths relative to the folder.

    Leaves out hidden files and those of the operating system. Follows links, but not in a loop. Raises FoldwiseError if
    a name is not UTF-8 text.
    """
    found = []
    top = os.fspath(folder)
    for base, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not is_hidden_or_system(name))
        if any(os.path.islink(os.path.join(base, name)) for name in folders):
            here = Path(base).resolve()
            folders[:] = [name for name in folders if not here.is_relative_to((here / name).resolve())]
        below = base[len(top) :].strip(os.sep).replace(os.sep, "/")
        prefix = f"{below}/" if below else ""
        found += [prefix + name for name in files if not is_hidden_or_system(name)]
    for name in found:
        if not name.isprintable() and is_not_utf8(name):
            raise InputError(f"{shown(folder)} holds a file whose name is not UTF-8 text, {name!a}; rename it")
    return sorted(found)
