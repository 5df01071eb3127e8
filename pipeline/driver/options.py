"""What a user types, as ``make train FOLD=0`` or ``python -m pipeline train FOLD=0``, checked before anything runs.

make hands its variables over in the environment. They are data: none of them is ever part of a shell's command.
Standard library only.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.records.command_line import Call
from pipeline.system.errors import FoldwiseError, suggestion
from pipeline.system.places import is_no_text
from pipeline.system.threads import cores, most_workers
from pipeline.system.toml import split_settings

#: The stages, in their order.
STAGES = ("prepare", "manifest", "folds", "train", "predict", "ensemble", "submit")
VERBS = {
    "prepare": "unpack what you put into data/<competition>/raw/",
    "manifest": "check every image: manifest.csv, problems.csv, a contact sheet",
    "folds": "split into stratified folds, once (FORCE=1 replaces folds that runs were made with)",
    "train": "train FOLD=0, or all folds",
    "predict": "out-of-fold and test probabilities of FOLD=0, or of all folds",
    "ensemble": "average the folds, and print the out-of-fold score",
    "submit": "everything up to submissions/<competition>/<run>.csv",
    "why": "what make submit would run, and why",
    "classify": "predict IMAGE=photo.jpg, or a folder, by the trained folds: label, bars, where they look",
    "results": "the README's table of the five tutorials, from the runs that are here",
    "doctor": "one page on this machine and this project: what is wrong, and what to type",
    "clean": "remove the caches of pixels, and dry runs; runs and submissions stay",
    "help": "this page",
}
VARIABLES = (
    "COMPETITION", "RECIPE", "SET", "FOLD", "FOLDS", "DRY", "FORCE", "HOURS", "DEVICE", "WORKERS", "GPUS", "CPUS",
    "CLUSTER", "DETERMINISTIC", "IMAGE",
)  # fmt: skip
#: These replace or skip something, and so count only where they are typed, not where the environment has them.
TYPED_ONLY = ("FORCE",)


@dataclass(frozen=True)
class Options:
    """What was typed. hours: None for no limit. jobs: folds side by side (make's -j), None if the driver chooses."""

    competition: str = "digits"
    recipe: str = ""
    settings: list[str] = field(default_factory=list)
    folds: str = ""
    dry_run: bool = False
    force: bool = False
    hours: float | None = None
    device: str = ""
    workers: str = ""
    gpus: str = ""
    cpus: str = ""
    cluster: str = ""
    deterministic: bool = False
    image: str = ""
    jobs: int | None = None
    keep_going: bool = False
    plan_only: bool = False

    @property
    def call(self) -> Call:
        """The names that select the work."""
        return Call(self.competition, self.recipe, self.settings, self.folds, self.dry_run)


def read_options(words: Sequence[str], environment: Mapping[str, str]) -> Options:
    """The options in ``NAME=value`` words and, where make called, in its environment.

    Raises FoldwiseError for an unknown or repeated name, or a value that cannot be obeyed.
    """
    values = from_make(environment) if "FOLDWISE_MAKE" in environment else {}
    typed: dict[str, str] = {}
    flags = make_flags(environment.get("MAKEFLAGS", "")) if "FOLDWISE_MAKE" in environment else Flags()
    for word in words:
        if word in ("-n", "--dry-run"):
            flags = Flags(flags.jobs, flags.keep_going, True)
            continue
        name, equals, value = word.partition("=")
        if name in VARIABLES and not equals:
            raise FoldwiseError(f"{name} has no value; write {name}=..., without a space")
        if name not in VARIABLES:
            raise FoldwiseError(f"'{word}' is no NAME=value such as FOLD=0{suggestion(name, VARIABLES)}")
        if name in typed:
            raise FoldwiseError(f"{name} is given twice; give it once")
        typed[name] = value
    values |= typed
    for name, value in values.items():
        if is_no_text(value):
            raise FoldwiseError(f"{name}={value!a} is no UTF-8 text")
    if values.get("FOLD") and values.get("FOLDS"):
        raise FoldwiseError("FOLD and FOLDS are both given; give one of them")
    return Options(
        competition=values.get("COMPETITION") or "digits",
        recipe=values.get("RECIPE", ""),
        settings=split_settings(values.get("SET", "")),
        folds=values.get("FOLDS") or values.get("FOLD") or "",
        dry_run=switch("DRY", values.get("DRY", "")),
        force=switch("FORCE", values.get("FORCE", "")),
        hours=hours(values.get("HOURS", "")),
        device=device(values.get("DEVICE", "")),
        workers=workers(values.get("WORKERS", "")),
        gpus=values.get("GPUS", ""),
        cpus=values.get("CPUS", ""),
        cluster=values.get("CLUSTER", ""),
        deterministic=switch("DETERMINISTIC", values.get("DETERMINISTIC", "")),
        image=values.get("IMAGE", ""),
        jobs=flags.jobs,
        keep_going=flags.keep_going,
        plan_only=flags.plan_only,
    )


def from_make(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that make handed over; FOLDWISE_MAKE names those that were typed on its command line."""
    typed = environment["FOLDWISE_MAKE"].split()
    names = [name for name in VARIABLES if name in environment and (name in typed or name not in TYPED_ONLY)]
    return {name: environment[name] for name in names}


@dataclass(frozen=True)
class Flags:
    """make's own flags. jobs: of -j, 0 for one without a number; plan_only: -n, -q or -t."""

    jobs: int | None = None
    keep_going: bool = False
    plan_only: bool = False


def make_flags(text: str) -> Flags:
    """What MAKEFLAGS says: letters in its first word, then options, then after ``--`` the variables."""
    words = text.partition(" -- ")[0].split()
    letters = words[0] if words and not words[0].startswith("-") and "=" not in words[0] else ""
    jobs = [word[2:] for word in words if re.fullmatch(r"-j\d*", word)]
    plan_only = any(letter in letters for letter in "nqt")
    return Flags(int(jobs[-1] or 0) if jobs else None, "k" in letters, plan_only)


def switch(name: str, value: str) -> bool:
    """Whether a switch is on; raises FoldwiseError for a value that says neither."""
    if value.lower() in ("1", "yes", "true", "on"):
        return True
    if value.lower() in ("", "0", "no", "false", "off"):
        return False
    raise FoldwiseError(f"{name}={value} is neither on nor off; write {name}=1 or {name}=0")


def hours(value: str) -> float | None:
    """A number of hours; raises FoldwiseError for anything that is none."""
    if not value.strip():
        return None
    number = float(value) if re.fullmatch(r"[0-9]{0,9}\.?[0-9]{1,9}", value.strip()) else math.nan
    if not 0 < number < 100_000:  # also not NaN
        raise FoldwiseError(f"HOURS={value} is not a number of hours, such as HOURS=8.5")
    return number


def workers(value: str) -> str:
    """A number of loader processes, as text; raises FoldwiseError for one that cannot be."""
    if value and not (re.fullmatch("[0-9]{1,6}", value) and int(value) <= most_workers()):
        raise FoldwiseError(
            f"WORKERS={value} is not a number of loader processes from 0 to {most_workers()}, which suits the "
            f"{cores()} cores of this machine"
        )
    return value


def device(value: str) -> str:
    """A device's name as torch writes it; raises FoldwiseError for anything else."""
    if value and not re.fullmatch(r"auto|(cpu|cuda|mps|xpu)(:[0-9]{1,3})?", value):
        raise FoldwiseError(f"unknown DEVICE={value}; known: auto, cpu, cuda, cuda:1, mps")
    return value
