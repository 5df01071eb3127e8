"""What each verb does."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from pipeline.driver.options import Options
from pipeline.driver.plan import make_plan
from tests.checkouts import make
from tests.driver.made import commands, split, trained


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
