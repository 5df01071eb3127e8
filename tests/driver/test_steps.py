"""Which stages would run, and why."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.driver.options import read_options
from pipeline.driver.plan import Plan, make_plan
from pipeline.driver.steps import steps, up_to_date
from pipeline.system.errors import FoldwiseError
from pipeline.system.index import Index
from tests.driver.made import commands, split, trained


def planned(*words: str) -> Plan:
    """The plan of ``make submit`` with these words."""
    return make_plan(read_options([*words], {}))


def test_each_seed_is_trained_and_predicted_and_all_are_combined_once(checkout: Path) -> None:
    plan = planned("SEEDS=2", "FOLDS=0,1")
    split(plan)
    trained(plan, 0)
    stages = commands(checkout, "submit", "SEEDS=2", "FOLDS=0,1")
    assert [line.split()[0] for line in stages] == [*["train"] * 3, "predict", "predict", "ensemble", "submit"]
    assert ["--seed 1" in line for line in stages] == [False, True, True, False, True, False, False]
    assert all("--folds 0,1 --seeds 2" in line for line in stages[-2:])
    reasons = [step.reason for step in steps(plan, "train", Index(plan.paths.home))]
    assert reasons == ["seed 0: fold 1 is not trained", "seed 1: folds 0, 1 are not trained"]
    assert up_to_date(plan, "train") == "2 folds x 2 seeds of digits are trained"


def test_after_hours_only_seeds_with_all_these_folds_are_combined(checkout: Path) -> None:
    plan = planned("SEEDS=3", "FOLDS=0,1")
    assert plan.finished is None
    parts = plan.of_seeds
    trained(parts[0], 0, 1)
    trained(parts[1], 0)
    trained(parts[2], 0, 1)
    finished = plan.finished
    assert finished is not None and [*finished.members.folds] == [0, 1] and finished.members.seeds == 1
    trained(parts[1], 1)
    finished = plan.finished
    assert finished is not None and finished.members.seeds == 3


def test_a_training_on_all_rows_is_a_fold_of_its_own(checkout: Path) -> None:
    plan = planned("FOLD=all")
    split(plan)
    trained(plan, *range(5))
    stages = commands(checkout, "submit", "FOLD=all")
    assert [line.split()[0] for line in stages] == ["train", "predict", "ensemble", "submit"]
    assert "--fold all" in stages[0] and all("--folds all" in line for line in stages[1:])
    with pytest.raises(FoldwiseError, match="SEEDS=0 is not a number of seeds"):
        planned("SEEDS=0")
