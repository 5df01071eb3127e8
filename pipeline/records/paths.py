"""Defines the paths of all files. Standard library only."""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.formats.listing import HDF5, PARQUET, TABLES, is_pixel_table
from pipeline.records.names import ALL_ROWS, Members, checked_blend
from pipeline.system import places
from pipeline.system.errors import InputError, suggestion
from pipeline.system.places import CHECKOUT, is_not_utf8, shown
from pipeline.system.toml import read_toml

RECIPES = Path(__file__).parents[1] / "recipes"
#: Folder in which pretrained weights are looked for before they are downloaded.
WEIGHTS = places.ROOT / "data" / "weights"
#: Names of folders of data/ that can be new competitions.
NAME = re.compile(r"\w[\w. +-]*")


def known_competitions(root: Path | None = None) -> list[str]:
    """Names of the folders in data/ that contain a competition.toml; data/ is in ``root`` (default: ROOT)."""
    names = (path.parent.name for path in ((root or places.ROOT) / "data").glob("*/competition.toml"))
    return sorted(name for name in names if not is_not_utf8(name))


def known_recipes() -> list[str]:
    """Names of the TOML files in pipeline/recipes/."""
    return sorted(path.stem for path in RECIPES.glob("*.toml"))


def recipe_path(name: str) -> Path:
    """Path of a recipe's TOML; raises FoldwiseError for an unknown name."""
    if name not in known_recipes():
        raise InputError(f"unknown recipe '{name}'{suggestion(name, known_recipes())}")
    return RECIPES / f"{name}.toml"


@dataclass(frozen=True)
class Paths:
    """The files and folders of one competition.

    competition: name of its folder in data/
    dry_run: True for a dry run, which writes into separate folders and uses the same images
    """

    competition: str
    dry_run: bool = False

    def __post_init__(self) -> None:
        known = self.competition in known_competitions() or self.competition in known_competitions(CHECKOUT)
        if not known and not (NAME.fullmatch(self.competition) and self.raw.is_dir()):
            raise InputError(
                f"unknown competition '{self.competition}': there is no {shown(self.home / 'competition.toml')}"
                f"{suggestion(self.competition, known_competitions() or known_competitions(CHECKOUT))} (for a new one, "
                f"put its files into {shown(self.home / 'raw')}/ and type make new)"
            )

    def facts(self) -> dict[str, Any]:
        """The content of competition.toml; raises FoldwiseError if there is none, or it is not valid TOML."""
        if not self.toml.exists():
            raise InputError(
                f"there is no {shown(self.home / 'competition.toml')}; to have one written from the files in "
                f"{shown(self.raw)}, type: make new COMPETITION={shlex.quote(self.competition)}"
            )
        return read_toml(self.toml)

    @property
    def home(self) -> Path:
        return places.ROOT / "data" / self.competition

    @property
    def shipped(self) -> Path:
        """The competition's folder in the checkout.

        It differs from ``home`` if FOLDWISE_ROOT is set. competition.toml and raw/ are read from it if ``home`` lacks
        them.
        """
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
        """The record of prepare, written last: hashes of the archives in raw/ and of the files in images/."""
        return self.home / "prepared.json"

    @property
    def output(self) -> Path:
        """The folder that the stages write to."""
        return self.home / "dry" if self.dry_run else self.home

    @property
    def manifest(self) -> Path:
        return self.output / "manifest.csv"

    @property
    def manifest_record(self) -> Path:
        return self.output / "manifest.json"

    @property
    def task(self) -> Path:
        """The kind of task and the names of its targets, as the manifest stage found them."""
        return self.output / "task.json"

    @property
    def folds_record(self) -> Path:
        return self.output / "folds.json"

    @property
    def problems(self) -> Path:
        return self.output / "problems.csv"

    @property
    def contact_sheet(self) -> Path:
        return self.output / "contact_sheet.png"

    @property
    def test_labels(self) -> Path:
        """Labels that were found in the names of the test images."""
        return self.output / "test_labels.csv"

    @property
    def folds(self) -> Path:
        return self.output / "folds.csv"

    @property
    def cache(self) -> Path:
        """Folder of the decoded images; below FOLDWISE_CACHE, for example a local disk, if that is set."""
        if os.environ.get("FOLDWISE_CACHE"):
            return Path(os.environ["FOLDWISE_CACHE"]) / self.output.relative_to(places.ROOT / "data")
        return self.output / "cache"

    @property
    def runs(self) -> Path:
        return self.output / "runs"

    @property
    def blends(self) -> Path:
        return self.output / "blends"

    @property
    def ledger(self) -> Path:
        """The list of all runs, blends and submissions that were made."""
        return self.output / "ledger.csv"

    def run(self, run: str) -> Path:
        return self.runs / run

    def fold(self, run: str, fold: int) -> Path:
        return self.runs / run / ("all" if fold == ALL_ROWS else f"fold{fold}")

    def trainings(self, run: str) -> list[Path]:
        """The folders of the folds of a run that exist, and that of all rows."""
        return sorted(folder for kind in ("fold*", "all") for folder in self.runs.glob(f"{run}/{kind}"))

    @property
    def all_trainings(self) -> list[Path]:
        """As ``trainings``, of all runs and seeds."""
        return [*self.trainings("*"), *self.trainings("*/seed*")]

    def predictions(self, run: str, members: Members) -> PredictionFolder:
        """The files of the combined predictions of some members of a run."""
        if members.on_all_rows:
            return PredictionFolder(self.fold(run, ALL_ROWS), f"~seeds={members.seeds}" if members.seeds > 1 else "")
        return PredictionFolder(self.run(run), members.name(""))

    def blend(self, name: str) -> PredictionFolder:
        """The files of a blend."""
        return PredictionFolder(self.blends / checked_blend(name))

    def submission(self, name: str) -> Path:
        """The CSV to upload of the predictions with this name."""
        return self.submissions / f"{name}.csv"

    def reproduced(self, name: str) -> Path:
        """The folder in which a submission is built again; it has its own data/ and submissions/."""
        return self.output / "reproduced" / name

    @property
    def submissions(self) -> Path:
        folder = places.ROOT / "submissions" / self.competition
        return folder / "dry" if self.dry_run else folder

    def find_optional(self, name: str) -> Path | None:
        """As ``find``, but returns None if there is no such file or folder."""
        beside = [self.home, self.toml.parent]
        # raw/ is searched before images/, so that the user's files take precedence over unpacked ones. A name of a
        # folder that Foldwise writes, such as "images", is searched in the competition's folder last.
        ours = self.home / name in (self.images, self.raw, self.cache, self.runs, self.home / "dry")
        bases = [self.raw, self.images, *beside] if ours else [*beside, self.raw, self.images]
        found = next((place for base in bases if (place := base / name).is_dir() or place.is_file()), None)
        without_pixels = self.images / TABLES / f"{Path(name).name.split('.')[0]}.csv"
        if name.lower().endswith((".csv", PARQUET)) and without_pixels.is_file():
            return without_pixels if found is None or is_pixel_table(found) else found
        return found

    def find_folder(self, name: str) -> Path | None:
        """The folder of images that competition.toml names: a folder, or what prepare has made of a file of images."""
        found = self.find_optional(name)
        if found is not None and found.is_dir():
            return found
        if not name.lower().endswith((*HDF5, PARQUET, ".csv")):
            return None
        made = self.find_optional(Path(name).name.split(".")[0])
        return made if made is not None and made.is_dir() else None

    def find(self, name: str) -> Path:
        """The file or folder that competition.toml names: absolute, or in the competition's folder, raw/ or images/.

        Raises FoldwiseError with the content of raw/ and images/ if there is none, or if it is a file that Foldwise
        writes.
        """
        if found := self.find_optional(name):
            if found in (self.manifest, self.folds, self.problems):
                raise InputError(
                    f"{shown(self.toml)} names '{name}', which is a file that Foldwise writes; rename your file"
                )
            return found
        here = sorted(p.name + ("/" if p.is_dir() else "") for p in [*self.images.glob("*"), *self.raw.glob("*")])
        raise InputError(
            f"{shown(self.toml)} names '{name}', which is neither in {shown(self.images)} nor in {shown(self.raw)}"
            f" (they contain: {', '.join(here[:8]) or 'nothing'}); correct the name, or put the file into raw/"
        )


@dataclass(frozen=True)
class PredictionFolder:
    """The files of a prediction: that of some members of a run, or that of a blend of runs.

    ``oof`` and ``test`` are in full precision. The CSV tables have the same content for people; no stage reads them.

    folder: the folder of the run, or ``all`` in it; or that of the blend
    suffix: part of the file names that lists the folds and seeds (``~folds=0,1``); "" for all folds and one seed
    """

    folder: Path
    suffix: str = ""

    @property
    def is_blend(self) -> bool:
        """True if several runs are blended."""
        return self.folder.parent.name == "blends"

    @property
    def name(self) -> str:
        """The name of the run and its choices, or of the blend; the submission has it too."""
        of_all_rows = self.folder.name == "all" and self.folder.parent.name not in ("runs", "blends")
        return (f"{self.folder.parent.name}~all" if of_all_rows else self.folder.name) + self.suffix

    @property
    def oof(self) -> Path:
        """Out-of-fold predictions; missing for a training on all rows."""
        return self.folder / f"oof{self.suffix}.npz"

    @property
    def test(self) -> Path:
        """Test predictions; missing if the competition has no test images."""
        return self.folder / f"test{self.suffix}.npz"

    @property
    def oof_table(self) -> Path:
        """The out-of-fold predictions as CSV."""
        return self.folder / f"oof{self.suffix}.csv"

    @property
    def test_table(self) -> Path:
        """The test predictions as CSV."""
        return self.folder / f"test{self.suffix}.csv"

    @property
    def record(self) -> Path:
        """The score, and the record of what was read and made; written last."""
        return self.folder / f"score{self.suffix}.json"
