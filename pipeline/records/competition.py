"""Facts: what a competition is. One competition.toml each; the README lists the keys."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from pipeline.records.metrics import METRICS
from pipeline.records.paths import MAX_FOLDS, Paths
from pipeline.system.errors import suggestion
from pipeline.system.places import shown
from pipeline.system.settings import Settings, validated
from pipeline.system.toml import read_toml

Symmetry = Literal["hflip", "vflip", "rot90", "transpose"]


def checked_pattern(pattern: str, needed: str) -> str:
    """A regex that compiles and has the named group it needs; the error shows the pattern corrected."""
    try:
        groups = re.compile(pattern).groupindex
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"not a regular expression: {error}") from error
    unknown = set(groups) - {"label", "id", "group"}
    if unknown:
        raise ValueError(f"a group can be named label, id or group, not '{min(unknown)}'")
    if needed not in groups:
        raise ValueError(
            f"the group '{needed}' has no name in this pattern; write pattern = '{with_names(pattern, needed)}'"
        )
    return pattern


def with_names(pattern: str, needed: str) -> str:
    """The pattern with its plain groups named: digits are the id, the first other one is the label.

    >>> with_names(r"^(.*?)_(\\d+)\\.jpg$", "label")
    '^(?P<label>.*?)_(?P<id>\\\\d+)\\\\.jpg$'
    """
    opening = re.compile(r"(?<!\\)\((?!\?)")  # "(" that is neither escaped nor the start of "(?..."
    starts = [match.end() for match in opening.finditer(pattern)]
    free = [name for name in (needed, "label", "id") if f"(?P<{name}>" not in pattern]
    named: dict[int, str] = {}
    for start in starts:
        is_number = re.match(r"(\\d|\[0-9\])", pattern[start:]) is not None
        wanted = "id" if is_number or (needed == "id" and len(starts) == 1) else "label"
        if wanted in free and wanted not in named.values():
            named[start] = wanted
    if needed not in named.values():
        return r"^(?P<label>.+?)[._](?P<id>\d+)\.jpg$" if needed == "label" else r"^(?P<id>.+)\.jpg$"
    for start in sorted(named, reverse=True):
        pattern = f"{pattern[:start]}?P<{named[start]}>{pattern[start:]}"
    return pattern


class Train(Settings):
    """Where the labelled images are, and how their labels are found."""

    images: str = "train"
    pattern: str | None = None
    labels: str | None = None  # a CSV, or "folders"
    id_column: str | None = None
    label_column: str | None = None
    group_column: str | None = None
    max_bad: float = Field(0.01, ge=0, le=1)

    @model_validator(mode="after")
    def one_source(self) -> Train:
        if self.labels is None:
            if self.pattern is None:
                raise ValueError("give a pattern with a group (?P<label>...), labels = a CSV, or labels = 'folders'")
            checked_pattern(self.pattern, "label")
        elif self.pattern is not None:
            raise ValueError(f"labels come from the pattern or from labels = '{self.labels}', not from both")
        return self


class Test(Settings):
    """Where the images to predict are, and what the competition calls them.

    Where the names of the images tell their labels, by class folders or by a group (?P<label>...) of the pattern, these
    are kept aside as a CSV of known labels would be: for submit alone, to print a score.
    """

    images: str = "test"
    pattern: str | None = None
    ids: str | None = None  # a CSV whose first column (or id_column) names the rows, such as the sample submission
    id_column: str | None = None
    header: bool | None = None  # whether the first line of that CSV names its columns
    labels: str | None = None  # a CSV of known labels (id, label), or "folders"
    optional: bool = False  # without the folder it ends with the out-of-fold score

    @property
    def names_contain_labels(self) -> bool:
        """Whether the labels are found in the names of the images."""
        return self.labels == "folders" or (self.pattern is not None and "(?P<label>" in self.pattern)

    @model_validator(mode="after")
    def one_source(self) -> Test:
        if self.pattern is not None and self.ids is not None:
            raise ValueError("ids come from the pattern or from ids = a CSV, not from both")
        if self.pattern is None and self.ids is None and self.labels != "folders":
            raise ValueError(
                "give a pattern with a group (?P<id>...), ids = a CSV such as the sample submission, or labels = "
                "'folders' where the test images lie in class folders"
            )
        if self.pattern is not None:
            groups = re.compile(checked_pattern(self.pattern, "id")).groupindex
            if "label" in groups and self.labels is not None:
                raise ValueError(f"labels come from the pattern or from labels = '{self.labels}', not from both")
        if self.ids is not None and self.labels == "folders":
            raise ValueError("labels = 'folders' takes the ids from the names too; leave ids out")
        return self


class Folds(Settings):
    """How the train rows are split."""

    n: int = Field(5, ge=2, le=MAX_FOLDS)
    seed: int = Field(42, ge=0, lt=2**32)
    file: str | None = None  # the user's own folds: a CSV with image_id and fold


class Submission(Settings):
    """The form of the file that the competition accepts."""

    columns: list[str] = Field(default=["id", "label"], min_length=2)
    value: Literal["probability", "class", "index", "columns"] = "class"
    positive: str | None = None
    sample: str | None = None
    order: Literal["id", "sample"] = "id"
    header: bool = True  # whether the first line names the columns

    @model_validator(mode="after")
    def fits(self) -> Submission:
        if self.value == "probability" and self.positive is None:
            raise ValueError("value = 'probability' needs positive = the class whose probability is asked for")
        if self.value != "columns" and len(self.columns) != 2:
            raise ValueError(f"value = '{self.value}' makes two columns, an id and a value")
        if self.order == "sample" and self.sample is None:
            raise ValueError("order = 'sample' needs sample = the sample submission")
        return self


class Competition(Settings):
    """All facts of one competition."""

    title: str
    slug: str | None = None
    task: Literal["classification"] = "classification"
    metric: str = "accuracy"
    classes: list[str] | None = Field(None, min_length=2)
    symmetries: list[Symmetry] = []
    recipe: str = "resnet18"
    builtin: Literal["digits"] | None = None  # prepare writes these images itself
    raw: list[str] | None = None  # the files in raw/ that are this competition's (patterns such as "*.zip"), else all
    train: Train
    test: Test | None = None
    folds: Folds = Folds()
    submission: Submission | None = None

    @field_validator("metric")
    @classmethod
    def known_metric(cls, metric: str) -> str:
        if metric not in METRICS:
            raise ValueError(f"unknown metric{suggestion(metric, METRICS)}")
        return metric

    @model_validator(mode="after")
    def consistent(self) -> Competition:
        if self.classes is not None and len(set(self.classes)) != len(self.classes):
            raise ValueError("classes holds a name twice")
        if (self.test is None) != (self.submission is None):
            raise ValueError("[test] and [submission] belong together: give both, or neither to end at the score")
        form = self.submission
        if form and not form.header and self.test and self.test.ids and self.test.header is None:
            raise ValueError("[test] ids: say header = true or false of that CSV, whether its first line names columns")
        if form and form.positive and self.classes and form.positive not in self.classes:
            raise ValueError(
                f"submission.positive = '{form.positive}' is not a class{suggestion(form.positive, self.classes)}"
            )
        return self


def load_competition(paths: Paths) -> Competition:
    """Reads competition.toml, without its [test] where that is optional and not here; raises FoldwiseError naming the
    key that is wrong."""
    competition = validated(Competition, read_toml(paths.toml), shown(paths.toml))
    if competition.test and competition.test.optional and paths.seek(competition.test.images) is None:
        return competition.model_copy(update={"test": None, "submission": None})
    return competition


def checked_label(label: str, classes: list[str]) -> str | None:
    """The class this label means: itself, or the one class that differs only in upper and lower case."""
    if label in classes:
        return label
    alike = [name for name in classes if name.casefold() == label.casefold()]
    return alike[0] if len(alike) == 1 else None
