"""Lists the files of a folder, and recognizes their kind by name. Standard library only."""

from __future__ import annotations

import os
import re
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

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
HDF5 = (".h5", ".hdf5")
CIFAR_NAMES = re.compile(r"data_batch_\d+|test_batch|batches\.meta")


def is_archive(path: Path) -> bool:
    """True if the name is that of an archive that formats/archives.py unpacks."""
    return path.name.lower().endswith(ARCHIVES)


def is_array_file(path: Path) -> bool:
    """True if the name is that of a file with images as arrays (formats/arrays.py)."""
    return path.name.lower().endswith(HDF5) or CIFAR_NAMES.fullmatch(path.name) is not None


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
