"""The one place that knows where each file lies, and what a run is called. Standard library only."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

from pipeline.system import places
from pipeline.system.errors import FoldwiseError, suggestion
from pipeline.system.places import CHECKOUT, is_not_utf8, shown

RECIPES = Path(__file__).parents[1] / "recipes"
#: Where pretrained weights are looked for before a hub is asked.
WEIGHTS = places.ROOT / "data" / "weights"
MAX_FOLDS = 100
#: Bytes of a run's name, and of the part of a name that lists folds: with the endings that follow, every file system
#: takes them.
LONGEST_RUN, LONGEST_FOLDS = 120, 40


def known_competitions(root: Path | None = None) -> list[str]:
    """Names of the folders below data/ (of ``root``, by default ROOT) that hold a competition.toml."""
    names = (path.parent.name for path in ((root or places.ROOT) / "data").glob("*/competition.toml"))
    return sorted(name for name in names if not is_not_utf8(name))


def known_recipes() -> list[str]:
    """Names of the TOML files in pipeline/recipes/."""
    return sorted(path.stem for path in RECIPES.glob("*.toml"))


def recipe_path(name: str) -> Path:
    """Path of a recipe's TOML; raises FoldwiseError for an unknown name."""
    if name not in known_recipes():
        raise FoldwiseError(f"unknown recipe '{name}'{suggestion(name, known_recipes())}")
    return RECIPES / f"{name}.toml"


def run_name(recipe: str, settings: Sequence[str]) -> str:
    """``run_name("resnet18", ["lr=1e-3", "epochs=2"])`` is ``"resnet18~epochs=2~lr=1e-3"``. Of a long value, such as a
    path, the name holds the end and a checksum; of many settings the first ones and a checksum of all."""
    name = unshortened_run_name(recipe, settings)
    if len(name.encode()) <= LONGEST_RUN:
        return name
    mark = hashlib.sha256("\n".join([recipe, *sorted(settings)]).encode()).hexdigest()[:12]
    kept = name.encode()[: LONGEST_RUN - len(mark) - 2].decode(errors="ignore")
    return f"{kept}~-{mark}"


def unshortened_run_name(recipe: str, settings: Sequence[str]) -> str:
    """As ``run_name``, of any length."""
    words = [recipe]
    for setting in sorted(settings):
        key, equals, value = setting.partition("=")
        short = value if len(value) <= 40 else f"{value[-24:].lstrip('/')}-{crc32(value.encode()):08x}"
        words.append(re.sub(r"[^\w.,+=-]", "-", key + equals + short))
    return "~".join(words)


def parse_folds(text: str, num_folds: int) -> list[int]:
    """Fold numbers in ``"0,2"`` or ``"0 2"``; empty text means all. Raises FoldwiseError for anything else."""
    words = text.replace(",", " ").split()
    if text.strip() and not words:
        raise FoldwiseError(f"FOLDS={text} names no fold; write for example FOLDS=0,2, or leave it out for all folds")
    folds = []
    for word in words:
        if not (word.isascii() and word.isdecimal()):
            raise FoldwiseError(f"fold '{word}' is not a number; this competition has folds 0 to {num_folds - 1}")
        if len(word) > 9 or int(word) >= num_folds:
            raise FoldwiseError(f"fold {word} is out of range: this competition has folds 0 to {num_folds - 1}")
        folds.append(int(word))
    return sorted(set(folds)) or list(range(num_folds))


@dataclass(frozen=True)
class Paths:
    """Files of one competition. A dry run makes its files in folders of its own, from the same images."""

    competition: str
    dry_run: bool = False

    def __post_init__(self) -> None:
        if self.competition not in known_competitions() and self.competition not in known_competitions(CHECKOUT):
            raise FoldwiseError(
                f"unknown competition '{self.competition}': there is no "
                f"{shown(places.ROOT / 'data' / self.competition / 'competition.toml')}"
                f"{suggestion(self.competition, known_competitions() or known_competitions(CHECKOUT))}"
            )

    @property
    def home(self) -> Path:
        return places.ROOT / "data" / self.competition

    @property
    def shipped(self) -> Path:
        """The competition's folder in the checkout. With FOLDWISE_ROOT elsewhere, what the user's folder lacks
        (competition.toml, raw/) is read from there."""
        return CHECKOUT / "data" / self.competition

    @property
    def toml(self) -> Path:
        own = self.home / "competition.toml"
        return own if own.exists() else self.shipped / "competition.toml"

    @property
    def raw(self) -> Path:
        own = self.home / "raw"
        return self.shipped / "raw" if not own.exists() and (self.shipped / "raw").is_dir() else own

    @property
    def images(self) -> Path:
        return self.home / "images"

    @property
    def prepared(self) -> Path:
        """Written last by prepare: its record, of the archives in raw/ and the files in images/."""
        return self.home / "prepared.json"

    @property
    def made(self) -> Path:
        return self.home / "dry" if self.dry_run else self.home

    @property
    def manifest(self) -> Path:
        return self.made / "manifest.csv"

    @property
    def manifest_record(self) -> Path:
        return self.made / "manifest.json"

    @property
    def folds_record(self) -> Path:
        return self.made / "folds.json"

    @property
    def problems(self) -> Path:
        return self.made / "problems.csv"

    @property
    def contact_sheet(self) -> Path:
        return self.made / "contact_sheet.png"

    @property
    def test_labels(self) -> Path:
        """Labels that the names of the test images told."""
        return self.made / "test_labels.csv"

    @property
    def folds(self) -> Path:
        return self.made / "folds.csv"

    @property
    def cache(self) -> Path:
        """Decoded pixels; below FOLDWISE_CACHE where that is set, a disk of this machine's own."""
        if os.environ.get("FOLDWISE_CACHE"):
            return Path(os.environ["FOLDWISE_CACHE"]) / self.made.relative_to(places.ROOT / "data")
        return self.made / "cache"

    @property
    def runs(self) -> Path:
        return self.made / "runs"

    def run(self, run: str) -> Path:
        return self.runs / run

    def fold(self, run: str, fold: int) -> Path:
        return self.runs / run / f"fold{fold}"

    def predictions(self, run: str, folds: list[int], num_folds: int) -> PredictionFolder:
        """The files of the prediction that some folds of a run make together."""
        return PredictionFolder(self.run(run), partial_name("", folds, num_folds))

    @property
    def submissions(self) -> Path:
        folder = places.ROOT / "submissions" / self.competition
        return folder / "dry" if self.dry_run else folder

    def seek(self, name: str) -> Path | None:
        """As ``find``, but None where there is no such thing."""
        beside = [self.home, self.toml.parent]
        # What the user put into raw/ comes before what was unpacked; our own folders, such as images/, come last.
        ours = self.home / name in (self.images, self.raw, self.cache, self.runs, self.home / "dry")
        bases = [self.raw, self.images, *beside] if ours else [*beside, self.raw, self.images]
        return next((place for base in bases if (place := base / name).is_dir() or place.is_file()), None)

    def find(self, name: str) -> Path:
        """A file or folder that the TOML names: absolute, or below the competition's folder, raw/ or images/.

        Raises FoldwiseError with the places searched.
        """
        if found := self.seek(name):
            if found in (self.manifest, self.folds, self.problems):
                raise FoldwiseError(
                    f"{shown(self.toml)} names '{name}', which is what Foldwise calls a file of its own; give yours "
                    "another name"
                )
            return found
        here = sorted(p.name + ("/" if p.is_dir() else "") for p in [*self.images.glob("*"), *self.raw.glob("*")])
        raise FoldwiseError(
            f"{shown(self.toml)} names '{name}', which is neither in {shown(self.images)} nor in {shown(self.raw)}"
            f" (they hold: {', '.join(here[:8]) or 'nothing'})"
        )


@dataclass(frozen=True)
class PredictionFolder:
    """The files of one prediction, whoever made it. ``oof`` and ``test`` hold it at full precision; the tables say the
    same for people and are never read back.

    folder: the folder of a run
    mark: "" for all folds of a run, else which folds (``~folds=0,1``)
    """

    folder: Path
    mark: str = ""

    @property
    def oof(self) -> Path:
        """Out-of-fold predictions."""
        return self.folder / f"oof{self.mark}.npz"

    @property
    def test(self) -> Path:
        """Test predictions; missing if the competition has no test images."""
        return self.folder / f"test{self.mark}.npz"

    @property
    def oof_table(self) -> Path:
        """The out-of-fold predictions as CSV."""
        return self.folder / f"oof{self.mark}.csv"

    @property
    def test_table(self) -> Path:
        """The test predictions as CSV."""
        return self.folder / f"test{self.mark}.csv"

    @property
    def record(self) -> Path:
        """The score and the record of what was read and made, written last."""
        return self.folder / f"score{self.mark}.json"


def partial_name(name: str, folds: list[int], num_folds: int, suffix: str = "") -> str:
    """The name of what is made from these folds: it says which when some are left out (``test~folds=0,1.csv``)."""
    if len(folds) == num_folds:
        return name + suffix
    listed = ",".join(map(str, folds))
    if len(listed) > LONGEST_FOLDS:
        listed = f"{len(folds)}-of-{num_folds}-{crc32(listed.encode()):08x}"
    return f"{name}~folds={listed}{suffix}"
