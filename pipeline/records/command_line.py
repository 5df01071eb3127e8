"""Defines the options of the stages, and the make command that continues. Standard library only."""

from __future__ import annotations

import argparse
import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.system.console import Parser, is_driven, whole_number
from pipeline.system.errors import InputError, count_of
from pipeline.system.threads import cores, most_workers

DEFAULT_COMPETITION = "digits"
#: Maximum number of seeds of a run.
MAX_SEEDS = 100

Part = Literal["run", "fold", "folds", "seeds", "blend", "device"]


@dataclass(frozen=True)
class Call:
    """The names that select the work, as the user typed them.

    competition: a folder of data/
    recipe: a file of pipeline/recipes/; "" for the recipe that competition.toml names
    settings: ``key=value`` changes of the recipe
    folds: fold numbers such as ``"0,1"``; "" for all folds; "all" to train on all rows
    dry_run: True for a rehearsal on a few images
    seeds: number of seeds whose predictions are averaged
    seed: the one that train and predict work on: 0 for the seed of the recipe, 1 for the next, ...
    blend: name of a blend to submit instead of a run; "" for a run
    """

    competition: str = DEFAULT_COMPETITION
    recipe: str = ""
    settings: Sequence[str] = ()
    folds: str = ""
    dry_run: bool = False
    seeds: int = 1
    seed: int = 0
    blend: str = ""

    @property
    def combined_by(self) -> str:
        """The verb that makes the predictions to submit."""
        return "blend" if self.blend else "ensemble"

    def make_line(self, verb: str) -> str:
        """The make command that runs ``verb`` on the same competition, run and folds."""
        words = [f"make {verb}"]
        if self.competition != DEFAULT_COMPETITION:
            words.append(f"COMPETITION={shlex.quote(self.competition)}")
        if self.blend:
            words.append(f"BLEND={shlex.quote(self.blend)}")
        if self.recipe:
            words.append(f"RECIPE={self.recipe}")
        if self.settings:
            text = " ".join(self.settings)
            words.append(f"SET={shlex.quote(text)}" if re.search(r"[\"$`\\]", text) else f'SET="{text}"')
        if self.folds:
            words.append("FOLD=all" if self.folds == "all" else f"FOLDS={self.folds}")
        if (seeds := max(self.seeds, self.seed + 1)) > 1:
            words.append(f"SEEDS={seeds}")
        if self.dry_run:
            words.append("DRY=1")
        return " ".join(words)

    def next_step(self, verb: str, more: str = "") -> str:
        """``"; next: make ..."``, or "" if the driver continues without the user."""
        return "" if is_driven() and "FOLDWISE_NEXT" not in os.environ else f"; next: {self.make_line(verb)}{more}"


@dataclass(frozen=True)
class Machine:
    """How a stage uses this machine. No field changes a result beyond rounding.

    device: "auto", "cpu", "cuda", "cuda:1" or "mps"
    workers: number of loader processes; None to choose by device
    threads: CPU threads; 0 for all cores
    deterministic: True to use only deterministic CUDA algorithms, whose results are the same bits every time
    until: time (seconds since 1970) at which training saves and stops; None for no limit
    """

    device: str = "auto"
    workers: int | None = None
    threads: int = 0
    deterministic: bool = False
    until: float | None = None

    def __post_init__(self) -> None:
        for name, value in (("workers", self.workers), ("threads", self.threads)):
            if value is not None and value < 0:
                raise InputError(f"{name} = {value} is less than 0")


def one_fold(text: str) -> str:
    """An argparse type: the number of a fold, or "all"."""
    if text != "all" and not re.fullmatch("-?[0-9]{1,9}", text):
        raise argparse.ArgumentTypeError(f"'{text}' is not the number of a fold, or 'all'")
    return text


def parser_for(doc: str | None, *parts: Part) -> argparse.ArgumentParser:
    """The argument parser of a stage, with the options of these parts.

    "run": the stage works on a run (a recipe with settings), and on one of its seeds unless it has "seeds"
    "fold": it works on one fold
    "folds": it works on several folds
    "seeds": it works on several seeds
    "blend": it works on a blend instead of a run, if one is named
    "device": it computes on a device
    """
    parser = Parser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--competition", default=DEFAULT_COMPETITION, metavar="NAME",
        help=f"a folder of data/ (default: {DEFAULT_COMPETITION})",
    )  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="a few images and two steps, in separate folders")
    if "run" in parts:
        parser.add_argument("--recipe", metavar="NAME", help="a file of pipeline/recipes/ (default: the competition's)")
        parser.add_argument(
            "--set", nargs="*", action="extend", default=[], metavar="KEY=VALUE", help="recipe keys to change"
        )
    if "folds" in parts:
        parser.add_argument("--folds", default="", metavar="K,K", help="the folds to use (default: all)")
    if "fold" in parts:
        parser.add_argument(
            "--fold", type=one_fold, required=True, metavar="K", help="the fold to train, or 'all' for all rows"
        )
    if "seeds" in parts:
        parser.add_argument(
            "--seeds", metavar="N", type=whole_number(1, MAX_SEEDS, ""), default=1,
            help="number of seeds to average (default: 1)",
        )  # fmt: skip
    elif "run" in parts:
        parser.add_argument(
            "--seed", metavar="K", type=whole_number(0, MAX_SEEDS - 1, ""), default=0,
            help="0 for the seed of the recipe, 1 for the next, ... (default: 0)",
        )  # fmt: skip
    if "blend" in parts:
        parser.add_argument("--blend", default="", metavar="NAME", help="a blend of runs, instead of a run")
    if "device" in parts:
        parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
        parser.add_argument(
            "--workers", metavar="N", help="number of loader processes (default: chosen by device)",
            type=whole_number(0, most_workers(), f", the maximum for {count_of(cores(), 'core')}"),
        )  # fmt: skip
        parser.add_argument(
            "--threads", metavar="N", help="number of CPU threads (default: all cores)",
            type=whole_number(0, cores(), ", the number of cores of this machine"), default=0,
        )  # fmt: skip
        parser.add_argument(
            "--deterministic", action="store_true", help="the same bits every time on CUDA too, but slower"
        )
    if "fold" in parts:
        parser.add_argument("--until", type=float, metavar="S", help="save and stop at this time (seconds since 1970)")
    return parser


def call_of(args: argparse.Namespace) -> Call:
    """The call that the options of a stage describe."""
    fold = getattr(args, "fold", None)
    folds = getattr(args, "folds", "") if fold is None else fold
    seeds, seed = getattr(args, "seeds", 1), getattr(args, "seed", 0)
    recipe, settings = getattr(args, "recipe", None) or "", getattr(args, "set", [])
    return Call(args.competition, recipe, settings, folds, args.dry_run, seeds, seed, getattr(args, "blend", ""))


def machine_of(args: argparse.Namespace) -> Machine:
    """The machine options of a stage; defaults for those that the stage does not have."""
    names = ("device", "workers", "threads", "deterministic", "until")
    return Machine(**{name: getattr(args, name) for name in names if hasattr(args, name)})
