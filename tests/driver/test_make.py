"""What make would do, and in which order: asked with -n in a folder that looks like a checkout."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from pipeline.driver.options import Options
from pipeline.driver.plan import Plan, make_plan, run_of, target_of
from pipeline.records.up_to_date import Target, predict_target, prepare_target
from pipeline.system.files import write_json
from pipeline.system.threads import cores, share_cores
from tests.driver.checkouts import make


def commands(checkout: Path, *words: str) -> list[str]:
    """The stages that ``make words...`` would run, with their options, in order."""
    done = make(checkout, "-n", *words)
    assert done.returncode == 0, done.stderr
    return re.findall(r"    python -m pipeline\.(.*)", done.stdout)


def threads_of(stages: list[str]) -> dict[int, int]:
    """Threads by fold."""
    found = [re.search(r"--fold (\d+).*--threads (\d+)", line) for line in stages if line.startswith("train")]
    return {int(match[1]): int(match[2]) for match in found if match}


def record(target: Target, *made: Path) -> None:
    """Writes the record of a stage that made these files."""
    for path in made:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"made by the test: {path.name}")
    target.record.parent.mkdir(parents=True, exist_ok=True)
    write_json(target.record, target.written(target.read_now(), made))


def split(plan: Plan) -> None:
    """As if all stages up to the folds had run."""
    record(prepare_target(plan.paths, plan.facts), plan.paths.images / "train" / "1_2.png")
    record(target_of(plan, "manifest"), plan.paths.manifest)
    record(target_of(plan, "folds"), plan.paths.folds)


def trained(plan: Plan, *folds: int) -> None:
    """As if these folds were trained."""
    for fold in folds:
        folder = plan.paths.fold(plan.run, fold)
        folder.mkdir(parents=True)
        for name in ("trained.json", "weights.safetensors"):
            (folder / name).write_text(f"{fold}")


def predicted(plan: Plan, *folds: int) -> None:
    """As if these folds were predicted."""
    for fold in folds:
        folder = plan.paths.fold(plan.run, fold)
        record(predict_target(plan.paths, run_of(plan), fold), folder / "oof.npz", folder / "test.npz")


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


def test_hours_train_until_then_and_submit_what_is_done(checkout: Path) -> None:
    plan = make_plan(Options())
    split(plan)
    trained(plan, 3)
    stages = commands(checkout, "submit", "HOURS=2")
    ends = {int(match[1]) for line in stages if (match := re.search(r"train .*--until (\d+)", line))}
    assert len(ends) == 1 and abs(ends.pop() - time.time() - 7200) < 60
    tail = [line for line in stages if not line.startswith("train")]
    assert [line.split()[0] for line in tail] == ["predict", "ensemble", "submit"]
    assert all("--folds 3" in line for line in tail)
    answer = make(checkout, "-n", "submit", "HOURS=long")
    assert answer.returncode and "HOURS=long is not a number of hours" in answer.stderr


@pytest.mark.parametrize("flags", [["-j1"], ["-j3"], ["-k"], ["-B"], ["-j", "-k", "-B"]])
def test_no_flag_of_makes_trains_again(checkout: Path, flags: list[str]) -> None:
    plan = make_plan(Options())
    split(plan)
    trained(plan, *range(5))
    stages = commands(checkout, "train", *flags)
    assert stages == []
