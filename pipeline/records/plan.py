"""Tells the Makefile what a call comes to: recipe, run, folds. Standard library only, so that it answers
before anything is installed.

    python3 -m pipeline.records.plan COMPETITION [--recipe R] [--set key=value ...] [--folds 0,1]
"""

from __future__ import annotations

import argparse
import sys

if not (3, 11) <= sys.version_info < (3, 15):  # as in pyproject.toml; said before anything newer is imported
    found = f"{sys.version_info[0]}.{sys.version_info[1]}"
    sys.exit(f"error: Foldwise needs Python 3.11 to 3.14, this is {found}; name another: make PYTHON=python3.12")

import tomllib

from pipeline.records.errors import FoldwiseError
from pipeline.records.paths import Paths, parse_folds, partial_name, recipe_path, run_name, shown


def plan(competition: str, recipe: str, settings: list[str], folds: str) -> dict[str, str]:
    """Make variables for one call; raises FoldwiseError as the stages would."""
    toml = Paths(competition).toml
    try:
        facts = tomllib.loads(toml.read_text(encoding="utf-8-sig"))
        num_folds = int(facts.get("folds", {}).get("n", 5))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, AttributeError, TypeError, ValueError) as error:
        raise FoldwiseError(f"{shown(toml)} cannot be read: {error}") from error
    recipe = recipe or str(facts.get("recipe", "resnet18"))
    recipe_path(recipe)
    run = run_name(recipe, settings)
    chosen = parse_folds(folds, num_folds)
    return {
        "RECIPE_NAME": recipe,
        "RUN": run,
        "NAME": partial_name(run, chosen, num_folds),
        "CHOSEN": " ".join(map(str, chosen)),
        "PARTIAL": "" if len(chosen) == num_folds else ",".join(map(str, chosen)),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("competition")
    parser.add_argument("--recipe", default="")
    parser.add_argument("--set", nargs="*", default=[])
    parser.add_argument("--folds", default="")
    args = parser.parse_args()
    try:
        # A word a variable, spaces as '|': what make's $(shell) hands on without a temporary file.
        variables = plan(args.competition, args.recipe, args.set, args.folds)
        print(*(f"{name}:={value.replace(' ', '|')}" for name, value in variables.items()))
    except FoldwiseError as fault:
        sys.exit(f"error: {fault}")
