"""Which files a folder holds, and of what kind they are by their names. Standard library only."""

from __future__ import annotations

import os
import re
from pathlib import Path

from pipeline.system.errors import FoldwiseError
from pipeline.system.places import is_not_utf8, shown

#: What systems leave lying about, in lower case.
NOT_PICTURES = {"thumbs.db", "desktop.ini", "__macosx"}

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
HDF5 = (".h5", ".hdf5")
CIFAR_NAMES = re.compile(r"data_batch_\d+|test_batch|batches\.meta")


def is_archive(path: Path) -> bool:
    """Whether the name is that of an archive that formats/archives.py unpacks."""
    return path.name.lower().endswith(ARCHIVES)


def is_array_file(path: Path) -> bool:
    """Whether the name is that of a file of images as arrays (formats/arrays.py)."""
    return path.name.lower().endswith(HDF5) or CIFAR_NAMES.fullmatch(path.name) is not None


def is_of_the_system(name: str) -> bool:
    """Whether a file or folder of this name is hidden or of the operating system's."""
    return name.startswith(".") or name.lower() in NOT_PICTURES


def list_files(folder: Path) -> list[str]:
    """The names (POSIX paths below the folder) of all files in a folder and its subfolders, sorted, without those of
    the operating system. Links are followed, but not in a loop.

    Raises FoldwiseError for a name that is no text.
    """
    found = []
    top = os.fspath(folder)
    for base, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not is_of_the_system(name))
        if any(os.path.islink(os.path.join(base, name)) for name in folders):
            here = Path(base).resolve()
            folders[:] = [name for name in folders if not here.is_relative_to((here / name).resolve())]
        below = base[len(top) :].strip(os.sep).replace(os.sep, "/")
        prefix = f"{below}/" if below else ""
        found += [prefix + name for name in files if not is_of_the_system(name)]
    for name in found:
        if not name.isprintable() and is_not_utf8(name):
            raise FoldwiseError(f"{shown(folder)} holds a file whose name is no UTF-8 text, {name!a}; rename it")
    return sorted(found)
