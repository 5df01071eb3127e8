"""Every kind of task says everything that the rooms above ask."""

from __future__ import annotations

from typing import get_args

import pytest

from pipeline.records.competition import TaskName, Value
from pipeline.tasks.forms import FORMS
from pipeline.tasks.kinds import TASKS
from pipeline.tasks.objective import LossName


def test_the_names_of_the_settings_are_those_of_the_code() -> None:
    assert set(get_args(TaskName)) == set(TASKS)
    assert set(get_args(Value)) == set(FORMS) == {form for task in TASKS.values() for form in task.forms}
    assert set(get_args(LossName)) == {loss for task in TASKS.values() for loss in task.losses}


@pytest.mark.parametrize("name", TASKS)
def test_a_kind_has_its_default_metric_and_words(name: str) -> None:
    task = TASKS[name](["1", "2"])
    assert task.kind == name and task.prior_words and task.noun
    assert task.metric(task.default_metric).name == task.default_metric
