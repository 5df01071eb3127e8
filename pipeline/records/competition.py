"""Loads competition.toml and checks its keys; data/README.md describes them."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from pipeline.records.names import MAX_FOLDS
from pipeline.records.paths import Paths
from pipeline.records.patterns import checked_file_name, checked_pattern
from pipeline.records.spelling import alike, plain
from pipeline.system.errors import suggestion
from pipeline.system.places import shown
from pipeline.system.settings import Settings, validated
from pipeline.tasks.metrics import Kind, find_metric, names_of_metrics, same_metric

Symmetry = Literal["hflip", "vflip", "rot90", "transpose"]
#: Values of ``task``; the classes are in tasks/kinds.py.
TaskName = Literal["classification", "multilabel", "regression", "ordinal"]
#: Values of ``[submission] value``; the functions are in tasks/forms.py.
Value = Literal["class", "index", "probability", "columns", "topk", "labels", "binary", "number", "rounded"]
#: Kinds of metrics, for a check before the task is known.
ALL_KINDS: tuple[Kind, ...] = ("classes", "tags", "numbers")
#: The user's own metric: a function in a file beside competition.toml.
OWN_METRIC = re.compile(r"(?P<file>[\w-]+\.py):(?P<function>[A-Za-z_]\w*)")


#: A folder, or several.
Folders = Annotated[str | list[str], Field(min_length=1)]


class Train(Settings):
    """[train]: where the labelled images are, and where their labels come from."""

    images: Folders = "train"
    pattern: str | None = None
    labels: str | None = None  # path of a CSV, or "folders"
    id_column: str | None = None
    file_name: str | None = None  # how the file of an id is named, such as "{id}_left.png"
    label_column: str | None = None
    label_columns: list[str] | None = Field(None, min_length=2)  # of 0 and 1, or of numbers
    label_separator: str | None = Field(None, min_length=1)  # between several labels in one cell
    group_column: str | None = None
    group_pattern: str | None = None  # with a group (?P<group>...)
    groups: str | None = None  # path of a CSV with group_id_column and group_column
    group_id_column: str | None = None
    max_bad: float = Field(0.01, ge=0, le=1)

    @model_validator(mode="after")
    def check_sources(self) -> Train:
        if self.labels is None:
            if self.pattern is None:
                raise ValueError("give a pattern with a group (?P<label>...), labels = a CSV, or labels = 'folders'")
            checked_pattern(self.pattern, "label")
        elif self.pattern is not None:
            raise ValueError(f"labels come from the pattern or from labels = '{self.labels}', not from both")
        if self.label_columns is not None and (self.label_column or self.label_separator):
            raise ValueError("give label_columns, or label_column with its label_separator, not both")
        if self.labels in (None, "folders"):
            for key in ("id_column", "label_column", "label_columns", "file_name"):
                if getattr(self, key) is not None:
                    raise ValueError(f"{key} needs labels = the path of a CSV")
            if self.group_column is not None and self.groups is None:
                raise ValueError("group_column needs groups = the path of a CSV, or labels = the path of a CSV")
        if self.group_id_column is not None and self.groups is None:
            raise ValueError("group_id_column needs groups = the path of a CSV")
        given = [self.groups is not None, self.group_pattern is not None]
        given += ["(?P<group>" in (self.pattern or ""), self.group_column is not None and self.groups is None]
        if sum(given) > 1:
            raise ValueError("groups come from groups, group_pattern, group_column or the pattern, not from several")
        if self.group_pattern is not None:
            checked_pattern(self.group_pattern, "group")
        if self.file_name is not None:
            checked_file_name(self.file_name)
        return self


class Test(Settings):
    """[test]: where the images to predict are, and where their ids come from.

    Known labels (from a CSV, class folders, or a group ``(?P<label>...)`` in the pattern) are used only by submit, to
    print a score.
    """

    images: Folders = "test"
    pattern: str | None = None
    ids: str | None = None  # path of a CSV with the ids in its first column or id_column, such as the sample submission
    id_column: str | None = None
    file_name: str | None = None  # how the file of an id is named, such as "{id}_left.png"
    header: bool | None = None  # True (also by default) if the first line of that CSV is a header
    labels: str | None = None  # path of a CSV of known labels (id, label), or "folders"
    optional: bool = False  # True if the folder may be missing; then there is no submission, only the score
    max_missing: float = Field(0.01, ge=0, le=1)  # share of the ids that may have no image

    @property
    def names_contain_labels(self) -> bool:
        """True if the names of the images contain their labels."""
        return self.labels == "folders" or (self.pattern is not None and "(?P<label>" in self.pattern)

    @model_validator(mode="after")
    def check_sources(self) -> Test:
        if self.pattern is not None and self.ids is not None:
            raise ValueError("ids come from the pattern or from ids = a CSV, not from both")
        if self.pattern is None and self.ids is None and self.labels != "folders":
            raise ValueError(
                "give a pattern with a group (?P<id>...), ids = a CSV such as the sample submission, or labels = "
                "'folders' if the test images are in class folders"
            )
        if self.pattern is not None:
            groups = re.compile(checked_pattern(self.pattern, "id")).groupindex
            if "label" in groups and self.labels is not None:
                raise ValueError(f"labels come from the pattern or from labels = '{self.labels}', not from both")
        if self.ids is not None and self.labels == "folders":
            raise ValueError("labels = 'folders' takes the ids from the names too; leave ids out")
        for key in ("id_column", "header", "file_name"):
            if getattr(self, key) is not None and self.ids is None:
                raise ValueError(f"{key} needs ids = the path of a CSV")
        if self.ids is None and "max_missing" in self.model_fields_set:
            raise ValueError("max_missing needs ids = the path of a CSV: without it, each row has an image")
        if self.file_name is not None:
            checked_file_name(self.file_name)
        return self


class Folds(Settings):
    """[folds]: how the train images are divided into folds."""

    n: int = Field(5, ge=2, le=MAX_FOLDS)
    seed: int = Field(42, ge=0, lt=2**32)
    file: str | None = None  # path of a CSV with the user's own folds (image_id, fold)


class Submission(Settings):
    """[submission]: the format of the CSV that the competition accepts."""

    columns: list[str] | None = Field(None, min_length=2)  # None: those of the sample, else id and label
    value: Value | None = None  # None: as the task has it by default
    positive: str | None = None
    k: int | None = Field(None, ge=1)  # number of guesses, for "topk"
    separator: str | None = Field(None, min_length=1)  # between several names in a cell; None: that of [train], " "
    first_index: int = Field(0, ge=0)  # number of the first class, for "index"
    rows: str | None = None  # one row for each id and column, with this id, such as "{id}_{column}"
    sample: str | None = None
    placeholder: bool = False  # True if the values of the sample do not show what kind of values is asked for
    order: Literal["id", "sample"] = "id"
    header: bool = True  # False to write no header line

    @model_validator(mode="after")
    def check_consistency(self) -> Submission:
        needs = {"positive": ("probability",), "k": ("topk",), "first_index": ("index",), "rows": ("columns", "binary")}
        for key, values in needs.items():
            if getattr(self, key) != Submission.model_fields[key].default and self.value not in values:
                raise ValueError(f"{key} has an effect only with value = {' or '.join(map(repr, values))}")
        if self.value == "probability" and self.positive is None:
            raise ValueError("value = 'probability' needs positive = the class whose probability is submitted")
        if self.value == "topk" and self.k is None:
            raise ValueError("value = 'topk' needs k = the number of guesses in a cell")
        if self.separator is not None and self.value not in ("topk", "labels", None):
            raise ValueError("separator has an effect only with value = 'topk' or 'labels'")
        one_column = self.value not in ("columns", "binary", None) or self.rows is not None
        if one_column and self.columns is not None and len(self.columns) != 2:
            raise ValueError(f"value = '{self.value}' needs exactly two columns, such as columns = ['id', 'label']")
        if self.rows is not None and not ("{id}" in self.rows and "{column}" in self.rows):
            raise ValueError("rows must contain {id} and {column}, such as rows = '{id}_{column}'")
        if self.order == "sample" and self.sample is None:
            raise ValueError("order = 'sample' needs sample = the path of the sample submission")
        if self.placeholder and self.sample is None:
            raise ValueError("placeholder has an effect only with sample = the path of the sample submission")
        return self


class Competition(Settings):
    """The content of competition.toml."""

    title: str
    slug: str | None = None
    task: TaskName | None = None  # None: found by the labels, see records/labels.py
    metric: str | None = None  # None: the default of the task
    greater_is_better: bool | None = None  # of one's own metric; None: True
    classes: list[str] | None = Field(None, min_length=2)
    symmetries: list[Symmetry] = []
    recipe: str = "resnet18"
    builtin: Literal["digits"] | None = None  # prepare writes these images itself
    max_pixels: int | None = Field(None, ge=1)  # of the largest image; None: the default of pixels/decode.py
    pixel_shape: list[int] | None = Field(None, min_length=2, max_length=3)  # of images in tables of pixels
    raw: list[str] | None = None  # names or patterns ("*.zip") of the files in raw/ to use; None: all
    train: Train
    test: Test | None = None
    folds: Folds = Folds()
    submission: Submission | None = None

    @field_validator("metric")
    @classmethod
    def known_metric(cls, metric: str | None) -> str | None:
        if metric is None or OWN_METRIC.fullmatch(metric) or any(find_metric(metric, kind) for kind in ALL_KINDS):
            return metric
        if ".py" in metric:
            raise ValueError(
                "a metric of your own is 'my_metric.py:score': a file beside competition.toml, a colon, and a function"
            )
        same = same_metric(metric)
        advice = (
            f"did you mean '{same}'?" if same else f"known: {names_of_metrics()}, or your own, 'my_metric.py:score'"
        )
        raise ValueError(f"unknown metric; {advice}")

    @model_validator(mode="after")
    def check_consistency(self) -> Competition:
        if self.classes is not None and len(set(self.classes)) != len(self.classes):
            raise ValueError("classes contains a name twice; remove one of them")
        if (self.test is None) != (self.submission is None):
            raise ValueError("give both [test] and [submission], or neither to get only the out-of-fold score")
        if self.greater_is_better is not None and not (self.metric and OWN_METRIC.fullmatch(self.metric)):
            raise ValueError("greater_is_better has an effect only with a metric of your own, 'my_metric.py:score'")
        form = self.submission
        if form and not form.header and self.test and self.test.ids and self.test.header is None:
            raise ValueError("[test] needs header = true or false: whether the CSV of ids has a header line")
        if form and form.positive and self.classes and form.positive not in self.classes:
            raise ValueError(
                f"submission.positive = '{form.positive}' is not a class{suggestion(form.positive, self.classes)}"
            )
        return self


def load_competition(paths: Paths) -> Competition:
    """Reads competition.toml; raises FoldwiseError with the key that is wrong.

    Leaves out [test] and [submission] if [test] is optional and its folder is missing.
    """
    competition = validated(Competition, paths.facts(), shown(paths.toml))
    test = competition.test
    if test and test.optional and all(paths.find_optional(name) is None for name in several(test.images)):
        return competition.model_copy(update={"test": None, "submission": None})
    return competition


def several(images: str | list[str]) -> list[str]:
    """The folders that ``images`` names, as a list."""
    return [images] if isinstance(images, str) else images


def checked_label(label: str, classes: list[str]) -> str | None:
    """The class with this name, or the only one that looks alike; None if there is none."""
    if label in classes:
        return label
    same = [name for name in classes if plain(name) == plain(label)] or [
        name for name in classes if alike(name) == alike(label)
    ]
    return same[0] if len(same) == 1 else None
