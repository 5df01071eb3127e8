"""Names of runs and of files for some folds, and the fold numbers that the user types. Standard library only."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from zlib import crc32

from pipeline.system.errors import InputError

#: Maximum bytes of the name of a run, and of the list of folds in a file name. With everything that is appended, file
#: names are then short enough for every file system.
MAX_RUN_NAME_BYTES, MAX_FOLD_LIST_BYTES = 120, 40


def run_name(recipe: str, settings: Sequence[str]) -> str:
    """``run_name("resnet18", ["lr=1e-3", "epochs=2"])`` is ``"resnet18~epochs=2~lr=1e-3"``.

    A long value, such as a path, is replaced by its end and a checksum. If the name is too long, it is cut off, and a
    checksum of the recipe's name and all settings is appended.
    """
    name = full_run_name(recipe, settings)
    if len(name.encode()) <= MAX_RUN_NAME_BYTES:
        return name
    mark = hashlib.sha256("\n".join([recipe, *sorted(settings)]).encode()).hexdigest()[:12]
    kept = name.encode()[: MAX_RUN_NAME_BYTES - len(mark) - 2].decode(errors="ignore")
    return f"{kept}~-{mark}"


def full_run_name(recipe: str, settings: Sequence[str]) -> str:
    """As ``run_name``, but without a limit on the length of the whole name."""
    words = [recipe]
    for setting in sorted(settings):
        key, equals, value = setting.partition("=")
        short = value if len(value) <= 40 else f"{value[-24:].lstrip('/')}-{crc32(value.encode()):08x}"
        words.append(re.sub(r"[^\w.,+=-]", "-", key + equals + short))
    return "~".join(words)


def parse_folds(text: str, num_folds: int) -> list[int]:
    """The fold numbers in ``"0,2"`` or ``"0 2"``, sorted; all folds if the text is empty.

    Raises FoldwiseError for any other text, or for a fold that does not exist.
    """
    words = text.replace(",", " ").split()
    if text.strip() and not words:
        raise InputError(f"FOLDS={text} lists no fold; write for example FOLDS=0,2, or leave it out for all folds")
    folds = []
    for word in words:
        if not (word.isascii() and word.isdecimal()):
            raise InputError(f"fold '{word}' is not a number; this competition has folds 0 to {num_folds - 1}")
        if len(word) > 9 or int(word) >= num_folds:
            raise InputError(f"fold {word} is out of range: this competition has folds 0 to {num_folds - 1}")
        folds.append(int(word))
    return sorted(set(folds)) or list(range(num_folds))


def name_with_folds(name: str, folds: list[int], num_folds: int, suffix: str = "") -> str:
    """The name of a file that is made from these folds; it lists them unless all are used (``test~folds=0,1.csv``)."""
    if len(folds) == num_folds:
        return name + suffix
    listed = ",".join(map(str, folds))
    if len(listed) > MAX_FOLD_LIST_BYTES:
        listed = f"{len(folds)}-of-{num_folds}-{crc32(listed.encode()):08x}"
    return f"{name}~folds={listed}{suffix}"
