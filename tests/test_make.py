"""What make would do, and in which order: asked with -n in a folder that looks like a checkout."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from pipeline.records.threads import cores, share_cores

CHECKOUT = Path(__file__).parents[1]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The Makefile and the code, with the digits' facts and nothing made yet."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(CHECKOUT / name, tmp_path)
    (tmp_path / "pipeline").symlink_to(CHECKOUT / "pipeline")
    (tmp_path / "data" / "digits").mkdir(parents=True)
    shutil.copy(CHECKOUT / "data" / "digits" / "competition.toml", tmp_path / "data" / "digits")
    return tmp_path


def commands(checkout: Path, *words: str) -> list[str]:
    """The stages that ``make words...`` would run, with their options, in order."""
    environment = {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    done = subprocess.run(
        ["make", "-n", *words], cwd=checkout, env=environment, capture_output=True, text=True, check=True
    )
    return re.findall(r"-m pipeline\.((?!records).*)", done.stdout)


def threads_of(stages: list[str]) -> dict[int, int]:
    """Threads by fold."""
    found = [re.search(r"--fold (\d+).*--threads (\d+)", line) for line in stages if line.startswith("train")]
    return {int(match[1]): int(match[2]) for match in found if match}


def done(checkout: Path, *names: str) -> None:
    """Makes files that stand for finished work."""
    for name in names:
        path = checkout / "data" / "digits" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.mark.parametrize("settings", [[], ["SET=epochs=2 lr=1e-3"]])  # which puts = and ~ into the run's name
def test_make_submit_runs_every_stage_once_and_shares_the_cores(checkout: Path, settings: list[str]) -> None:
    stages = commands(checkout, "submit", *settings)
    names = [line.split()[0] for line in stages]
    assert names == ["prepare", "manifest", "folds", *["train"] * 5, "predict", "ensemble", "submit"]
    assert "--folds 0,1,2,3,4 " in stages[8] + " "
    assert threads_of(stages) == dict(enumerate(share_cores(5, cores())[1]))


def test_one_word_takes_a_fold_to_many_gpus_and_the_folds_to_many_machines(checkout: Path) -> None:
    ranks = commands(checkout, "submit", "GPUS=2", "DEVICE=cpu")
    assert [line.split()[:3] for line in ranks[3:9]] == [["tools.ranks", "2", "train"]] * 5 + [
        ["tools.ranks", "2", "predict"]
    ]
    done(checkout, "prepared.json", "manifest.csv", "folds.csv", "runs/digits/fold1/trained.json")
    machines = commands(checkout, "submit", "CLUSTER=head:6379", "GPUS=0.5", "CPUS=3")
    assert [line.split()[0] for line in machines] == ["tools.cluster", "predict", "ensemble", "submit"]
    assert '--folds 0,1,2,3,4 --address "head:6379" --gpus 0.5 --cpus 3' in machines[0]
    done(checkout, *(f"runs/digits/fold{fold}/trained.json" for fold in range(5)))
    assert [line.split()[0] for line in commands(checkout, "submit", "CLUSTER=auto")] == [
        "predict",
        "ensemble",
        "submit",
    ]


def test_an_interrupted_call_goes_on_with_the_threads_of_the_first(checkout: Path) -> None:
    before = threads_of(commands(checkout, "submit"))
    done(checkout, "prepared.json", "manifest.csv", "folds.csv")
    done(checkout, *(f"runs/digits/fold{fold}/trained.json" for fold in (0, 2)), "runs/digits/fold0/predicted.json")
    stages = commands(checkout, "submit")
    assert threads_of(stages) == {fold: before[fold] for fold in (1, 3, 4)}
    assert next(line for line in stages if line.startswith("predict")).split("--folds ")[1].split()[0] == "1,2,3,4"


def test_one_fold_gets_all_cores_and_jobs_of_ones_own_share_them(checkout: Path) -> None:
    assert threads_of(commands(checkout, "train", "FOLD=3")) == {3: cores()}
    jobs = cores() + 1  # never what the rule says
    assert set(threads_of(commands(checkout, f"-j{jobs}", "train")).values()) == {1}


def test_hours_train_until_then_and_submit_what_is_done(checkout: Path) -> None:
    done(checkout, "prepared.json", "manifest.csv", "folds.csv", "runs/digits/fold3/trained.json")
    stages = commands(checkout, "submit", "HOURS=2")
    ends = {int(match[1]) for line in stages if (match := re.search(r"train .*--until (\d+)", line))}
    assert len(ends) == 1 and abs(ends.pop() - time.time() - 7200) < 60
    tail = [line for line in stages if not line.startswith("train")]
    assert [line.split()[0] for line in tail] == ["predict", "ensemble", "submit"]
    assert all("--folds 3" in line for line in tail)
    answer = subprocess.run(
        ["make", "-n", "submit", "HOURS=long"], cwd=checkout, capture_output=True, text=True, check=False
    )
    assert answer.returncode and "HOURS=long is not a number of hours" in answer.stderr
