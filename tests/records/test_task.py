"""task.json, and a metric of one's own."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest

from pipeline.records.competition import load_competition
from pipeline.records.paths import Paths
from pipeline.records.task import metric_of, metric_sha256, read_task, save_task
from pipeline.system.errors import FoldwiseError
from pipeline.tasks.multilabel import Multilabel
from pipeline.tasks.ordinal import Ordinal
from tests.conftest import Edit, Failure, Stage

SCORE = """
import numpy as np

def score(labels, probs):
    return np.mean(labels == probs.argmax(axis=1)) * 10
"""


def test_a_task_is_kept_as_it_is(split: Paths) -> None:
    for task in (Multilabel(["a b", "c"], ";"), Ordinal(["0", "1"])):
        save_task(split, task)
        read = read_task(split, load_competition(split))
        assert (type(read), read.target_names, read.separator) == (type(task), task.target_names, task.separator)
    split.task.unlink()
    with pytest.raises(FoldwiseError, match="run the manifest stage first"):
        read_task(split, load_competition(split))


@pytest.fixture
def own(split: Paths, edit: Edit) -> Callable[[str], Paths]:
    def write(code: str) -> Paths:
        (split.home / "my_metric.py").write_text(code)
        if "my_metric" not in split.toml.read_text():
            edit('"accuracy"', '"my_metric.py:score"')
        return split

    return write


def test_a_metric_of_ones_own_is_used_and_recorded(own: Callable[[str], Paths], stage: Stage) -> None:
    paths = own(SCORE)
    for name in ("train", "predict", "ensemble", "submit"):
        stage(name, "--folds" if name != "train" else "--fold", "0")
    record = paths.run("tiny") / "score~folds=0.json"
    score = json.loads(record.read_text())
    assert score["metric"] == "my_metric.py:score"
    assert score["cv_score"] == pytest.approx(10 * score["accuracy"])
    assert score["metric_sha256"] == metric_sha256(load_competition(paths), paths)
    assert not (paths.home / "__pycache__").exists()


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("def other(a, b): return 1", "has no function 'score'"),
        ("import no_such_package", "cannot be imported: ModuleNotFoundError in line 1"),
        ("def score(:", "cannot be imported: SyntaxError in line 1"),
        ("def score(a, b):\n    return 1 / 0", "failed: ZeroDivisionError in line 2"),
        ("def score(a, b):\n    return 'good'", "failed: ValueError"),
        ("def score(a):\n    return 1", "failed: TypeError"),
    ],
)
def test_faults_of_a_metric_name_its_line(own: Callable[[str], Paths], failure: Failure, code: str, words: str) -> None:
    own(code)
    assert words in failure("train", "--fold", "0")


def test_a_metric_is_never_taken_from_an_archive(own: Callable[[str], Paths], failure: Failure) -> None:
    paths = own(SCORE)
    source = paths.home / "my_metric.py"
    (paths.images / "my_metric.py").parent.mkdir(exist_ok=True)
    source.rename(paths.images / "my_metric.py")
    assert "it must be in the folder of competition.toml" in failure("train", "--fold", "0")
    source.symlink_to(paths.images / "my_metric.py")
    assert "is a link to another folder" in failure("train", "--fold", "0")


def test_a_metric_that_writes_into_its_arguments_changes_nothing(own: Callable[[str], Paths]) -> None:
    paths = own("def score(truth, values):\n    values[:] = 0.5\n    truth[:] = 0\n    return 1")
    task = read_task(paths, load_competition(paths))
    targets, probs = np.eye(2)[[0, 1]], np.array([[0.9, 0.1], [0.2, 0.8]])
    task.score(metric_of(load_competition(paths), task, paths), targets, probs)
    assert probs.tolist() == [[0.9, 0.1], [0.2, 0.8]] and targets.tolist() == [[1, 0], [0, 1]]


def test_a_metric_is_given_what_is_submitted(split: Paths, own: Callable[[str], Paths]) -> None:
    """Decisions for grades that are submitted as classes, probabilities otherwise."""
    own("def score(truth, values):\n    return float(((values == 0) | (values == 1)).all())")
    competition = load_competition(split)
    task = Ordinal(["0", "1", "2"])
    probs, targets = np.full((4, 3), 1 / 3), np.eye(3)[[0, 1, 2, 0]]
    assert task.score(metric_of(competition, task, split), targets, probs) == 1
    columns = competition.model_copy(
        update={"submission": competition.submission.model_copy(update={"value": "columns"})}  # type: ignore[union-attr]
    )
    assert task.score(metric_of(columns, task, split), targets, probs) == 0
