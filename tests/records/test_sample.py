"""The values of the sample submission are compared with what would be submitted, before training."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from pipeline.records.sample import check_values
from pipeline.system.errors import FoldwiseError
from pipeline.tasks.classification import Classification
from pipeline.tasks.forms import Form
from pipeline.tasks.multilabel import Multilabel
from pipeline.tasks.ordinal import Ordinal
from pipeline.tasks.regression import Regression
from pipeline.tasks.task import Task

ANIMALS = Classification(["cat", "dog", "emu"])
NUMBERED = Classification(["1", "2", "3"])
TAGS = Multilabel(["sea", "ship"])
GRADES = Ordinal(["0", "1", "2"])
AGES = Regression(["age"])


def check(task: Task, value: str, *cells: str, **form: int) -> None:
    sample = pd.DataFrame({"id": [str(number) for number in range(len(cells))], "label": cells})
    check_values(sample, Form(value, ["label"], **form), task, Path("sample.csv"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("task", "value", "cells", "form", "words"),
    [
        (NUMBERED, "index", "123", {}, "the numbers go from 1 to 3.*set first_index = 1"),
        (ANIMALS, "index", ["cat", "dog"], {}, "it has names of classes.*value = 'class'"),
        (ANIMALS, "index", ["0.5", "0.5"], {}, "value = 'probability'"),
        (ANIMALS, "class", ["0", "1"], {}, "it has zeros and ones.*'index'"),
        (ANIMALS, "class", ["cat", "cow"], {}, "'cow' is not a class"),
        (ANIMALS, "class", ["cat dog", "dog emu"], {}, "several names of classes.*'topk'"),
        (NUMBERED, "class", ["0", "1", "2"], {}, "'0' is not a class"),
        (ANIMALS, "probability", ["cat", "cat"], {}, "it has names of classes"),
        (ANIMALS, "columns", ["7", "9"], {}, "it has whole numbers"),
        (ANIMALS, "topk", ["cat dog emu", "cat"], {"k": 2}, "a cell has 3 names, but k = 2"),
        (ANIMALS, "topk", ["cat cow", "dog emu"], {"k": 2}, "'cow' is not a class"),
        (TAGS, "labels", ["sea,ship", "sea,ship"], {}, "separated by ',' \\(set separator\\)"),
        (TAGS, "labels", ["0.5", "0.5"], {}, "value = 'probability' or 'columns'"),
        (TAGS, "binary", ["0.5", "0"], {}, "it has probabilities"),
        (AGES, "number", ["old", "young"], {}, "it has texts"),
        (AGES, "rounded", ["1.5", "2"], {}, "numbers with decimals.*'number'"),
        (GRADES, "class", ["0.7", "1.2"], {}, "'0.7' is not a class.*'number'"),
    ],
)
def test_another_kind_of_values_is_refused(task: Task, value: str, cells: list[str], form: dict, words: str) -> None:
    with pytest.raises(FoldwiseError, match=words) as caught:
        check(task, value, *cells, **form)
    assert "set placeholder = true" in str(caught.value)


@pytest.mark.parametrize(
    ("task", "value", "cells", "form"),
    [
        (ANIMALS, "class", ["cat", "dog"], {}),
        (ANIMALS, "class", ["unknown", "unknown"], {}),  # one text in all rows is a placeholder
        (NUMBERED, "class", ["0", "0"], {}),
        (NUMBERED, "index", ["1", "3"], {"first_index": 1}),
        (NUMBERED, "index", ["0", "0"], {}),
        (ANIMALS, "probability", ["0.5", "1"], {}),
        (ANIMALS, "columns", ["0", "0"], {}),
        (ANIMALS, "topk", ["new_whale w_1 w_2"] * 3, {"k": 3}),
        (TAGS, "labels", ["sea ship", "sea"], {}),
        (Classification(["New York", "LA"]), "topk", ["New York", "LA"], {"k": 1}),
        (TAGS, "labels", ["", "sea"], {}),
        (AGES, "number", ["65.03", "65.03"], {}),
        (GRADES, "class", ["0", "0"], {}),
    ],
)
def test_values_that_fit_or_are_placeholders(task: Task, value: str, cells: list[str], form: dict) -> None:
    check(task, value, *cells, **form)
