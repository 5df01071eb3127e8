"""Names of runs and of files for some folds and seeds, and the folds that the user types. Standard library only."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

from pipeline.system.errors import InputError, count_of

#: Maximum bytes of the name of a run, and of the list of folds in a file name. With everything that is appended, file
#: names are then short enough for every file system.
MAX_RUN_NAME_BYTES, MAX_FOLD_LIST_BYTES = 120, 40
#: Maximum number of folds of a competition.
MAX_FOLDS = 100
#: The "fold" without validation rows, FOLD=all: it trains on all rows, and predicts only the test images.
ALL_ROWS = MAX_FOLDS


def run_name(recipe: str, settings: Sequence[str]) -> str:
    """``run_name("resnet18", ["lr=1e-3", "epochs=2"])`` is ``"resnet18~epochs=2~lr=1e-3"``.

    A long value, such as a path, is replaced by its end and a checksum. If the name is too long, it is cut off, and a
    checksum of the recipe's name and all settings is appended.
    """
    return shortened(full_run_name(recipe, settings), "\n".join([recipe, *sorted(settings)]))


def shortened(name: str, whole: str) -> str:
    """The name or, if it is too long, its beginning and a checksum of ``whole``."""
    if len(name.encode()) <= MAX_RUN_NAME_BYTES:
        return name
    mark = hashlib.sha256(whole.encode()).hexdigest()[:12]
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


def blend_name(runs: Sequence[str], name: str = "") -> str:
    """The name of a blend: the user's, or the names of its runs, such as ``lenet+resnet18``."""
    return checked_blend(name) if name else shortened("+".join(runs), "\n".join(runs))


def checked_blend(name: str) -> str:
    """The name of a blend; raises FoldwiseError if it cannot be that of a folder."""
    if not re.fullmatch(r"\w[\w.+=,~-]*", name) or len(name.encode()) > MAX_RUN_NAME_BYTES:
        raise InputError(
            f"BLEND={name} cannot be the name of a blend; use up to {MAX_RUN_NAME_BYTES} letters, digits and . _ - +"
        )
    return name


def parse_folds(text: str, num_folds: int) -> list[int]:
    """The fold numbers in ``"0,2"`` or ``"0 2"``, sorted; [ALL_ROWS] for ``"all"``; all folds if the text is empty.

    Raises FoldwiseError for any other text, or for a fold that does not exist.
    """
    words = text.replace(",", " ").split()
    if text.strip() and not words:
        raise InputError(f"FOLDS={text} lists no fold; write for example FOLDS=0,2, or leave it out for all folds")
    if words == ["all"]:
        return [ALL_ROWS]
    folds = []
    for word in words:
        if not (word.isascii() and word.isdecimal()):
            raise InputError(f"fold '{word}' is not a number; this competition has folds 0 to {num_folds - 1}")
        if len(word) > 9 or int(word) >= num_folds:
            raise InputError(f"fold {word} is out of range: this competition has folds 0 to {num_folds - 1}")
        folds.append(int(word))
    return sorted(set(folds)) or list(range(num_folds))


def heading_of(competition: str, run: str, fold: int) -> str:
    """The heading of the pictures of a fold; a run that has the name of its competition is not named twice."""
    return ", ".join(dict.fromkeys([competition, run, fold_name(fold)]))


def fold_name(fold: int) -> str:
    """``"fold 3"``, or ``"all rows"``."""
    return "all rows" if fold == ALL_ROWS else f"fold {fold}"


def fold_list(folds: Sequence[int]) -> str:
    """``"fold 3"``, ``"folds 0, 1, 4"`` or ``"all rows"``."""
    return fold_name(folds[0]) if len(folds) == 1 else f"folds {', '.join(map(str, folds))}"


def typed_folds(folds: Sequence[int]) -> str:
    """The folds as the user types them: ``"0,1,4"`` or ``"all"``."""
    return "all" if [*folds] == [ALL_ROWS] else ",".join(map(str, folds))


def run_of_seed(run: str, seed: int) -> str:
    """The name of the part of a run that is trained with another seed: ``"resnet18/seed1"``; 0 is the run itself."""
    return f"{run}/seed{seed}" if seed else run


@dataclass(frozen=True)
class Members:
    """The trained networks of a run that are combined: each of these folds with each of the seeds.

    folds: their numbers
    num_folds: number of folds of the competition
    seeds: number of seeds
    """

    folds: Sequence[int]
    num_folds: int
    seeds: int = 1

    @property
    def on_all_rows(self) -> bool:
        """True for FOLD=all."""
        return [*self.folds] == [ALL_ROWS]

    @property
    def partial(self) -> bool:
        """True if some folds of the competition are left out."""
        return len(self.folds) < self.num_folds and not self.on_all_rows

    @property
    def described(self) -> str:
        """``"5 folds"``, ``"5 folds x 3 seeds"`` or ``"all rows"``."""
        which = "all rows" if self.on_all_rows else count_of(len(self.folds), "fold")
        return which + (f" x {self.seeds} seeds" if self.seeds > 1 else "")

    @property
    def twin(self) -> Members:
        """All folds with the same seeds, whose out-of-fold score speaks for a training on all rows."""
        return Members(range(self.num_folds), self.num_folds, self.seeds)

    def name(self, stem: str, suffix: str = "") -> str:
        """The name of a file that is made from them: ``test.csv``, or ``test~folds=0,1~seeds=3.csv`` with choices."""
        if self.on_all_rows:
            stem += "~all"
        elif self.partial:
            listed = typed_folds(self.folds)
            if len(listed) > MAX_FOLD_LIST_BYTES:
                listed = f"{len(self.folds)}-of-{self.num_folds}-{crc32(listed.encode()):08x}"
            stem += f"~folds={listed}"
        return stem + (f"~seeds={self.seeds}" if self.seeds > 1 else "") + suffix
