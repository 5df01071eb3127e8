"""Writes a first competition.toml from the files of a competition, and tries it.

    make new COMPETITION=dogs-vs-cats
    python -m pipeline new COMPETITION=dogs-vs-cats

Reads   data/<competition>/raw/ and images/: names of folders and files, CSV headers, the sample submission
Writes  data/<competition>/competition.toml, with a comment that says what each line was read from, and "# ?" where it
        is a guess; never overwrites one
"""

from __future__ import annotations

from pipeline.records.command_line import parser_for
from pipeline.system.console import answer_early

PARSER = parser_for(__doc__)
if __name__ == "__main__":  # before the imports that take seconds
    answer_early(PARSER)

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pandas as pd

from pipeline.formats.listing import is_archive
from pipeline.records.command_line import Call, call_of
from pipeline.records.competition import Competition, Train
from pipeline.records.finding import list_images
from pipeline.records.labelled import read_labels
from pipeline.records.labels import task_of
from pipeline.records.paths import Paths
from pipeline.records.problems import DROPPED, require_images
from pipeline.records.sources import test_table
from pipeline.records.submission import check_submission
from pipeline.records.tables import read_csv
from pipeline.system.console import run_stage, say
from pipeline.system.errors import FoldwiseError, InputError, count_of
from pipeline.system.files import write_text
from pipeline.system.places import shown
from pipeline.system.settings import validated
from pipeline.system.toml import parse_toml
from pipeline.tasks.regression import number
from pipeline.tasks.task import Task
from pipeline.tools.found import Found
from pipeline.tools.looking import look

#: Examples that are printed, and the largest width of a line.
EXAMPLES, WIDTH = 5, 120
#: A line of the file: key, value as TOML, and comment.
Line = tuple[str, str, str]
#: What must be filled in if no pattern was found.
PATTERN_TO_FILL_IN = r"^(?P<label>.+?)_(?P<id>\d+)\.jpg$"


def text(value: str | list[str]) -> str:
    """A text or a list of texts as TOML."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, str) and "\\" in value and "'" not in value:
        return f"'{value}'"
    return json.dumps(value, ensure_ascii=False)


def train_lines(found: Found) -> list[Line]:
    """The table [train]."""
    doubts = found.doubts
    lines = [("images", text(found.train), guess("the folder of the train images", doubts.get("train")))]
    if found.labels == "folders":
        lines.append(("labels", text("folders"), "a folder for each class"))
    elif found.labels:
        assert found.ids is not None
        lines.append(("labels", text(found.labels), "a CSV whose ids are names of train images"))
        lines.append(("id_column", text(found.ids.column), "the column of these ids"))
        if found.ids.file_name:
            lines.append(("file_name", text(found.ids.file_name), "how the files are named"))
        if found.label_column:
            reason = guess("the column with the labels", doubts.get("label_column"))
            lines.append(("label_column", text(found.label_column), reason))
        if found.group_column:
            what = "one is kept in one fold"
            lines.append(("group_column", text(found.group_column), guess(what, doubts["group_column"])))
    elif found.pattern:
        lines.append(("pattern", text(found.pattern), "? by the names of the files"))
    else:
        lines.append(("pattern", text(PATTERN_TO_FILL_IN), "? fill in: how names contain labels, or set labels"))
    return lines


def test_lines(found: Found) -> list[Line]:
    """The table [test]; [] if there are no test images."""
    if not found.test:
        return []
    lines = [("images", text(found.test), "the images to predict")]
    if found.test_has_classes:
        return [*lines, ("labels", text("folders"), "in class folders, so that their labels are known")]
    if found.test_ids is None:
        return [*lines, ("pattern", r"'^(?P<id>.+)\.[^.]+$'", "? the id of an image is its name without extension")]
    lines.append(("ids", text(found.test_ids.table), "a CSV whose ids are names of test images"))
    lines.append(("id_column", text(found.test_ids.column), "the column of these ids"))
    if found.test_ids.file_name:
        lines.append(("file_name", text(found.test_ids.file_name), "how the files are named"))
    return lines


def guess(reason: str, others: str | None) -> str:
    """The comment of a line, with a question mark and the other possibilities if it is a guess."""
    return f"? {reason + '; ' if reason else ''}else {others}" if others else reason


def forms_of(task: Task, sample: pd.DataFrame | None) -> Iterator[list[Line]]:
    """The forms of submission that the sample may have, the most likely ones first."""
    columns = [] if sample is None else list(sample.columns[1:])
    if len(columns) > 1:
        yield [("value", text("columns"), "the sample has a column for each")]
        if "binary" in task.forms:
            yield [("value", text("binary"), "the sample has a column of 0 and 1 for each")]
        return
    names = task.target_names
    positive = "1" if "1" in names else columns[0] if columns and columns[0] in names else names[-1]
    words = [] if sample is None else [cell.split() for cell in sample.iloc[:, 1].unique()]
    several = max(map(len, words), default=1)
    if any(has_decimals(pd.Series(cell)) or "." in cell[-1] for cell in words if len(cell) > 1):
        several = 1  # a class and its confidence
    reason = "the sample has such values" if sample is not None else "? no sample shows it"
    likely = ""
    if task.kind == "classification" and several > 1 and not any(" " in name for name in names):
        likely = "topk"
    elif task.kind == "classification" and sample is not None and has_decimals(sample.iloc[:, 1]):
        likely = "probability"
    for value in sorted(task.forms, key=lambda value: value != likely):
        lines = [("value", text(value), reason)]
        if value == "class" and len(names) == 2 and all(number(name) is not None for name in names):
            lines = [("value", text(value), f'? else "probability" with positive = {text(positive)}')]
        if value == "probability":
            lines += [("positive", text(positive), "?" if len(names) > 2 or positive != "1" else "")]
        if value == "topk":
            lines += [("k", str(max(1, several)), "as many as in the sample")]
        if value in ("columns", "binary"):
            continue
        yield lines
        if value == "index":
            yield [*lines, ("first_index", "1", "? by the sample")]


def has_decimals(cells: pd.Series) -> bool:
    """True if all cells are numbers, and not all of them whole."""
    numbers = [number(cell) for cell in cells.unique()]
    return None not in numbers and any(value % 1 for value in numbers if value is not None)


def as_text(top: list[Line], tables: dict[str, list[Line]], hint: str = "") -> str:
    """The content of competition.toml; hint: a commented line that may be needed."""
    parts = ["\n".join(formatted(top))]
    parts[0] += (
        '\n# metric = "..."     # ? no file tells it: write that of the competition, else the default of the task\n'
        'symmetries = []      # which changes keep a label, such as "hflip"? See data/README.md'
    )
    parts[0] += f"\n{hint}" if hint else ""
    for name, lines in tables.items():
        if lines:
            parts.append("\n".join([f"[{name}]", *formatted(lines)]))
    return "\n".join(parts) + "\n"


def formatted(lines: list[Line]) -> list[str]:
    """The lines, with their columns aligned."""
    keys, values = (max(len(line[place]) for line in lines) for place in (0, 1))
    width = min(values, 40)
    found = []
    for key, value, note in lines:
        line = f"{key:<{keys}} = {value:<{width}}   # "
        text = " ".join(note.split())  # a name of a column may have line breaks
        room = max(20, WIDTH - len(line))
        found.append(line + (text if len(text) <= room else f"{text[: room - 3]}..."))
    return found


def competition_of(content: str, paths: Paths) -> Competition:
    """The competition that the content of competition.toml describes."""
    return validated(Competition, parse_toml(content), shown(paths.toml))


def slug_of(paths: Paths) -> str:
    """The name of the only archive in raw/, which Kaggle names as the competition."""
    archives = [path.name.split(".")[0] for path in paths.raw.glob("*") if is_archive(path)]
    return archives[0] if len(archives) == 1 and "-" in archives[0] else ""


def compose(found: Found, paths: Paths) -> tuple[str, str, list[tuple[str, str]]]:
    """The content of competition.toml, what must be filled in ("" for nothing), and examples (id, label)."""
    top = [("title", text(paths.competition.replace("-", " ").capitalize()), "by the name of the folder")]
    if slug := slug_of(paths):
        top.append(("slug", text(slug), "? the name in Kaggle's URLs, by the archive"))
    tables = {"train": train_lines(found), "test": test_lines(found), "folds": [("n", "5", "the usual number")]}
    sample = read_csv(paths.find(found.sample)) if found.sample else None
    sample = sample if sample is not None and len(sample.columns) > 1 else None
    layout: list[Line] = [("columns", '["id", "label"]', "?")]
    if found.sample:
        layout = [("sample", text(found.sample), guess("also gives the header", found.doubts.get("sample")))]
    if found.test:
        tables["submission"] = layout
    content = as_text(top, tables)
    if not (found.labels or found.pattern):
        return content, "pattern, or labels, in [train]: where the label of each image stands", []
    try:
        labelled = read_labels(paths, competition_of(content, paths))
        task = task_of(labelled.kind, labelled.names, labelled.table)
        if labelled.kind.reason or labelled.kind.doubt:
            top.append(("task", text(task.kind), labelled.kind.reason or f"? {labelled.kind.doubt.partition(';')[0]}"))
    except FoldwiseError as fault:
        return content, str(fault), []
    rows = zip(labelled.table["name"], labelled.table["label"], strict=True)
    examples = list(islice(rows, EXAMPLES))
    bad = [problem for problem in labelled.problems if problem.problem in DROPPED]
    if len(bad) > Train.model_fields["max_bad"].default * labelled.files:
        return content, f"[train]: {bad[0].problem} for {len(bad)} of {labelled.files}, such as {bad[0].path}", examples
    if not found.test:
        return content, "", examples
    faults = []
    are_numbers = task.kind == "classification" and len(task.target_names) > 2
    are_numbers = are_numbers and all(number(name) is not None for name in task.target_names)
    hint = '# task     = "ordinal"   # ? if the numbers are grades, with an order' if are_numbers else ""
    for lines in forms_of(task, sample):
        content = as_text(top, tables | {"submission": [*lines, *layout]}, hint)
        try:
            try_submission(competition_of(content, paths), task, paths)
            return content, "", examples
        except FoldwiseError as fault:
            faults.append(str(fault))
    return as_text(top, tables), f"value in [submission]: {faults[0]}", examples


def try_submission(competition: Competition, task: Task, paths: Paths) -> None:
    """Raises FoldwiseError if the manifest stage would refuse [test] or [submission]."""
    assert competition.test is not None
    images = list_images(paths, competition.test.images, "test")
    table, problems = test_table(competition.test, images, paths)
    require_images(table, problems, competition.test.max_missing)
    check_submission(table["image_id"], task, competition, paths)


def run(call: Call) -> Path:
    """Writes competition.toml and returns its path; raises FoldwiseError if there is one, or no image."""
    paths = Paths(call.competition)
    if paths.toml.exists():
        raise InputError(f"{shown(paths.toml)} exists already; to have another one written, rename it")
    found, toml = look(paths), paths.home / "competition.toml"
    if not found.train and not found.test:
        raise InputError(
            f"there is no image in {shown(paths.raw)} or {shown(paths.images)}; put the archives or folders of the "
            f"competition into {shown(paths.raw)}/"
        )
    content, to_fill_in, examples = compose(found, paths)
    write_text(toml, content)
    for name, label in examples:
        print(f"    {name} -> {label}")
    guesses = count_of(sum("# ?" in line for line in content.splitlines()), "guess")
    say("new", f"{shown(toml)} is written, with {guesses}, marked by '# ?'")
    if to_fill_in:
        say("new", f"note: fill in {to_fill_in}")
    say("new", f"next: look at it, then type {call.make_line('manifest')}")
    return toml


def main(argv: list[str] | None = None) -> None:
    run(call_of(PARSER.parse_args(argv)))


if __name__ == "__main__":
    run_stage(main)
