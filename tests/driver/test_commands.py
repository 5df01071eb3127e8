"""The command line of each stage."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipeline.driver.options import Options
from pipeline.driver.plan import Plan, make_plan
from pipeline.driver.steps import run_of
from pipeline.records.up_to_date import predict_files
from pipeline.system.threads import cores, share_cores
from tests.driver.made import commands, record, split, trained


def threads_of(stages: list[str]) -> dict[int, int]:
    """Threads by fold."""
    found = [re.search(r"--fold (\d+).*--threads (\d+)", line) for line in stages if line.startswith("train")]
    return {int(match[1]): int(match[2]) for match in found if match}


def predicted(plan: Plan, *folds: int) -> None:
    """As if these folds were predicted."""
    for fold in folds:
        folder = plan.paths.fold(plan.run, fold)
        record(predict_files(plan.paths, run_of(plan), fold), folder / "oof.npz", folder / "test.npz")


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
    plan = make_plan(Options())
    split(plan)
    trained(plan, 1)
    machines = commands(checkout, "submit", "CLUSTER=head:6379", "GPUS=0.5", "CPUS=3")
    assert [line.split()[0] for line in machines] == ["driver.cluster", "predict", "ensemble", "submit"]
    assert "--folds 0,2,3,4 --address=head:6379 --gpus 0.5 --cpus 3" in machines[0]
    trained(plan, 0, 2, 3, 4)
    assert [line.split()[0] for line in commands(checkout, "submit", "CLUSTER=auto")] == [
        "predict",
        "ensemble",
        "submit",
    ]


def test_an_interrupted_call_goes_on_with_the_threads_of_the_first(checkout: Path) -> None:
    before = threads_of(commands(checkout, "submit"))
    plan = make_plan(Options())
    split(plan)
    trained(plan, 0, 2)
    predicted(plan, 0)
    stages = commands(checkout, "submit")
    assert threads_of(stages) == {fold: before[fold] for fold in (1, 3, 4)}
    assert next(line for line in stages if line.startswith("predict")).split("--folds ")[1].split()[0] == "1,2,3,4"


def test_one_fold_gets_all_cores_and_jobs_of_ones_own_share_them(checkout: Path) -> None:
    assert threads_of(commands(checkout, "train", "FOLD=3")) == {3: cores()}
    jobs = cores() + 1  # never what the rule says
    assert set(threads_of(commands(checkout, f"-j{jobs}", "train")).values()) == {1}
