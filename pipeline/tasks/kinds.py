"""The kinds of tasks by their names in competition.toml."""

from __future__ import annotations

from pipeline.tasks.classification import Classification
from pipeline.tasks.multilabel import Multilabel
from pipeline.tasks.ordinal import Ordinal
from pipeline.tasks.regression import Regression
from pipeline.tasks.task import Task

TASKS: dict[str, type[Task]] = {kind.kind: kind for kind in (Classification, Multilabel, Regression, Ordinal)}
