"""Reads and checks what the user types, as ``make train FOLD=0`` or ``python -m pipeline train FOLD=0``.

make passes its variables in the environment. They are data: none of them becomes part of a shell command.
Standard library only.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.records.command_line import DEFAULT_COMPETITION, MAX_SEEDS, Call
from pipeline.system.errors import InputError, suggestion
from pipeline.system.places import is_not_utf8
from pipeline.system.threads import cores, most_workers
from pipeline.system.toml import split_settings

#: The stages in the order in which they run.
STAGES = ("prepare", "manifest", "folds", "train", "predict", "ensemble", "submit")
VERBS = {
    "prepare": "unpack the files in data/<competition>/raw/",
    "manifest": "check every image; write manifest.csv, problems.csv and a contact sheet",
    "folds": "split the images into stratified folds, once (FORCE=1 replaces folds even if runs use them)",
    "train": "train one fold (FOLD=0), all folds, or one network on all rows (FOLD=all)",
    "predict": "compute the out-of-fold and test predictions of one fold (FOLD=0) or all folds",
    "ensemble": "combine the predictions of the folds, and print the out-of-fold score",
    "submit": "run all stages up to submissions/<competition>/<run>.csv",
    "new": "write a first competition.toml from the files in data/<competition>/raw/",
    "why": "print what make submit would run, and why",
    "blend": 'blend runs (RUNS="resnet18 lenet"), each with its honest worth; then make submit BLEND=name',
    "runs": 'list all runs and blends, best first (SCORE="name=0.45" notes a leaderboard score)',
    "compare": "say whether one run is really better than another (A=name B=name)",
    "report": "make a page that explains a run (RECIPE=, or BLEND=); without one, a page of all runs",
    "reproduce": "build a submission again (SUBMISSION=name), and say whether the bytes are the same",
    "classify": "classify an image (IMAGE=photo.jpg) or a folder with the trained folds, and draw the result",
    "results": "update the table of the five tutorials in tests/benchmarks/README.md",
    "doctor": "check this machine and this project; print what is wrong and what to do",
    "clean": "delete caches of pixels and features, and dry runs; runs and submissions stay",
    "help": "print this page",
}
VARIABLES = (
    "COMPETITION", "RECIPE", "SET", "FOLD", "FOLDS", "DRY", "FORCE", "HOURS", "DEVICE", "WORKERS", "GPUS", "CPUS",
    "CLUSTER", "DETERMINISTIC", "IMAGE", "TEST", "IDS", "SEEDS", "RUNS", "BLEND", "A", "B", "SCORE", "SUBMISSION",
)  # fmt: skip
#: The verbs of variables that only some verbs use.
ONLY_FOR = {
    "TEST": ("submit",), "IDS": ("submit",), "RUNS": ("blend", "submit", "why"),
    "BLEND": ("blend", "report", "submit", "why"),
    "A": ("compare",), "B": ("compare",), "SCORE": ("runs",), "SUBMISSION": ("reproduce",),
    "IMAGE": ("classify",),
}  # fmt: skip
#: Variables that replace files, or are common names: they count only if they are typed.
COMMAND_LINE_ONLY = ("FORCE", *ONLY_FOR)


@dataclass(frozen=True)
class Options(Call):
    """What the user typed: the names of a Call, and how to run it; "" selects a default.

    force: True to replace folds that runs use
    hours: time limit in hours; None for no limit
    device: such as "cpu", "cuda:1" or "auto"
    workers: number of loader processes
    gpus: number of GPUs for each fold; on a cluster also a fraction such as "0.5"
    cpus: number of CPUs for each fold, on a cluster only
    cluster: "auto" or host:port of a Ray cluster; "" to train on this machine
    deterministic: True to use only CUDA algorithms that repeat bit for bit
    image: the file or folder to classify
    test: another folder to submit predictions of, by a finished run
    ids: a CSV with the ids of that folder
    runs: the names of the runs to blend, separated by spaces
    a, b: the names of two runs or blends to compare
    score: the name of a submission and its leaderboard score, "name=0.45"
    submission: the name of a submission to build again
    jobs: number of folds side by side (make's -j); 0 for all; None if the driver chooses
    keep_going: True to start the other folds after one failed (make's -k)
    plan_only: True to print what would run, and run nothing (make's -n)
    """

    force: bool = False
    hours: float | None = None
    device: str = ""
    workers: str = ""
    gpus: str = ""
    cpus: str = ""
    cluster: str = ""
    deterministic: bool = False
    image: str = ""
    test: str = ""
    ids: str = ""
    runs: str = ""
    a: str = ""
    b: str = ""
    score: str = ""
    submission: str = ""
    jobs: int | None = None
    keep_going: bool = False
    plan_only: bool = False


def read_options(words: Sequence[str], environment: Mapping[str, str]) -> Options:
    """Options from ``NAME=value`` words and, if make is the caller, from the environment.

    Raises FoldwiseError for an unknown or repeated name, or an invalid value.
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
            raise InputError(f"{name} has no value; write {name}=..., without a space")
        if name not in VARIABLES:
            raise InputError(f"'{word}' is not a known NAME=value, such as FOLD=0{suggestion(name, VARIABLES)}")
        if name in typed:
            raise InputError(f"{name} is given twice; give it once")
        typed[name] = value
    values |= typed
    for name, value in values.items():
        if is_not_utf8(value):
            raise InputError(f"{name}={value!a} is not UTF-8 text")
    if values.get("IDS") and not values.get("TEST"):
        raise InputError("IDS needs TEST=folder, another test folder to predict")
    if values.get("FOLD") and values.get("FOLDS"):
        raise InputError("FOLD and FOLDS are both given; give one of them")
    named = "BLEND" if values.get("BLEND") else "RUNS"
    beside = [name for name in ("RECIPE", "SET", "FOLD", "FOLDS", "SEEDS", "TEST") if values.get(name)]
    if beside and (values.get("BLEND") or values.get("RUNS")):
        raise InputError(f"{named} names trained runs; leave out {beside[0]}, which has no effect beside it")
    return Options(
        competition=values.get("COMPETITION") or DEFAULT_COMPETITION,
        recipe=values.get("RECIPE", ""),
        settings=split_settings(values.get("SET", "")),
        folds=values.get("FOLDS") or values.get("FOLD") or "",
        dry_run=parse_switch("DRY", values.get("DRY", "")),
        seeds=parse_seeds(values.get("SEEDS", "")),
        force=parse_switch("FORCE", values.get("FORCE", "")),
        hours=parse_hours(values.get("HOURS", "")),
        device=check_device(values.get("DEVICE", "")),
        workers=check_workers(values.get("WORKERS", "")),
        gpus=values.get("GPUS", ""),
        cpus=values.get("CPUS", ""),
        cluster=values.get("CLUSTER", ""),
        deterministic=parse_switch("DETERMINISTIC", values.get("DETERMINISTIC", "")),
        image=values.get("IMAGE", ""),
        test=values.get("TEST", ""),
        ids=values.get("IDS", ""),
        blend=values.get("BLEND", ""),
        runs=values.get("RUNS", ""),
        a=values.get("A", ""),
        b=values.get("B", ""),
        score=values.get("SCORE", ""),
        submission=values.get("SUBMISSION", ""),
        jobs=flags.jobs,
        keep_going=flags.keep_going,
        plan_only=flags.plan_only,
    )


def check_variables(options: Options, verb: str) -> None:
    """Raises FoldwiseError for a variable that this verb does not use."""
    for name, verbs in ONLY_FOR.items():
        if getattr(options, name.lower()) and verb not in verbs:
            raise InputError(f"{name} is for make {' and make '.join(verbs)}, not for make {verb}")


def from_make(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that make passed in the environment; FOLDWISE_MAKE lists those typed on make's command line."""
    typed = environment["FOLDWISE_MAKE"].split()
    names = [name for name in VARIABLES if name in environment and (name in typed or name not in COMMAND_LINE_ONLY)]
    return {name: environment[name] for name in names}


@dataclass(frozen=True)
class Flags:
    """make's own flags.

    jobs: the number of -j; 0 for -j without a number; None without -j
    keep_going: True for -k
    plan_only: True for -n, -q or -t
    """

    jobs: int | None = None
    keep_going: bool = False
    plan_only: bool = False


def make_flags(text: str) -> Flags:
    """Parses MAKEFLAGS: letters in its first word, then options, then the variables after ``--``."""
    words = text.partition(" -- ")[0].split()
    letters = words[0] if words and not words[0].startswith("-") and "=" not in words[0] else ""
    jobs = [word[2:] for word in words if re.fullmatch(r"-j\d*", word)]
    plan_only = any(letter in letters for letter in "nqt")
    return Flags(int(jobs[-1] or 0) if jobs else None, "k" in letters, plan_only)


def parse_switch(name: str, value: str) -> bool:
    """True if a switch is on; raises FoldwiseError for a value that is neither on nor off."""
    if value.lower() in ("1", "yes", "true", "on"):
        return True
    if value.lower() in ("", "0", "no", "false", "off"):
        return False
    raise InputError(f"{name}={value} is neither on nor off; write {name}=1 or {name}=0")


def parse_seeds(value: str) -> int:
    """The number of seeds, 1 for empty text; raises FoldwiseError for anything else."""
    if value.strip() and not (re.fullmatch("[0-9]{1,4}", value.strip()) and 1 <= int(value) <= MAX_SEEDS):
        raise InputError(f"SEEDS={value} is not a number of seeds from 1 to {MAX_SEEDS}, such as SEEDS=3")
    return int(value) if value.strip() else 1


def parse_hours(value: str) -> float | None:
    """The number of hours, None for empty text; raises FoldwiseError for anything else."""
    if not value.strip():
        return None
    number = float(value) if re.fullmatch(r"[0-9]{0,9}\.?[0-9]{1,9}", value.strip()) else math.nan
    if not 0 < number < 100_000:  # also refuses NaN
        raise InputError(f"HOURS={value} is not a number of hours, such as HOURS=8.5")
    return number


def check_workers(value: str) -> str:
    """The number of loader processes, as text; raises FoldwiseError for an invalid number."""
    if value and not (re.fullmatch("[0-9]{1,6}", value) and int(value) <= most_workers()):
        raise InputError(
            f"WORKERS={value} is not a number of loader processes from 0 to {most_workers()}, the maximum for a "
            f"machine with {cores()} cores"
        )
    return value


def check_device(value: str) -> str:
    """The name of a torch device, "auto" or ""; raises FoldwiseError for anything else."""
    if value and not re.fullmatch(r"auto|(cpu|cuda|mps)(:[0-9]{1,3})?", value):
        raise InputError(f"unknown DEVICE={value}; known: auto, cpu, cuda, cuda:1, mps")
    return value
