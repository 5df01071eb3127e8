"""Stage 3: divide the train images into stratified folds, once.

    make folds COMPETITION=dogs-vs-cats
    python -m pipeline.folds --competition dogs-vs-cats

Reads   manifest.csv, task.json and, if [folds] file names a CSV with your own folds (image_id, fold), that CSV
Writes  folds.csv (image_id, label, group, fold); images of a group, and byte-identical images, are in the same fold
"""

from __future__ import annotations

from pipeline.records.command_line import parser_for
from pipeline.system.console import answer_early

PARSER = parser_for(__doc__)
PARSER.add_argument("--force", action="store_true", help="replace folds even if runs were trained with them")
if __name__ == "__main__":  # before the imports that take seconds
    answer_early(PARSER)

import shlex
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.records.competition import Competition, Folds
from pipeline.records.job import Job, job_of
from pipeline.records.paths import Paths
from pipeline.records.runs import made_of
from pipeline.records.tables import (
    FOLDS_COLUMNS,
    fold_numbers,
    read_csv,
    read_manifest,
    require_same_ids,
    require_written_by_foldwise,
    write_csv,
)
from pipeline.records.task import read_task
from pipeline.records.up_to_date import folds_files
from pipeline.system.console import run_stage, say
from pipeline.system.errors import InputError, StaleError, count_of
from pipeline.system.files import fingerprint, write_json
from pipeline.system.places import shown
from pipeline.tasks.stratification import iterative_folds
from pipeline.tasks.task import Task


def resolve_groups(train: pd.DataFrame) -> pd.Series:
    """The group (N,) str of each row: rows with the same user's group or the same bytes are in one group.

    This also joins rows that are connected only through other rows. A group has the name of the user's group of its
    first row, or the image_id of that row. A row that is alone and has no user's group gets "".
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    named = train["group"].where(train["group"] != "", "row " + train["image_id"])
    by_name, by_bytes = (pd.factorize(column)[0] for column in (named, train["sha256"]))
    # In this graph, the nodes are the user's groups and the file contents; each row is an edge between two of them.
    nodes = by_name.max() + 1 + by_bytes.max() + 1
    edges = coo_array((np.ones(len(train), np.int8), (by_name, by_name.max() + 1 + by_bytes)), shape=(nodes, nodes))
    component = pd.Series(connected_components(edges, directed=False)[1][by_name])
    first = (
        train["group"].where(train["group"] != "", train["image_id"]).groupby(component.to_numpy()).transform("first")
    )
    return first.where((component.map(component.value_counts()) > 1).to_numpy() | (train["group"] != ""), "")


def assign_folds(
    train: pd.DataFrame, strata: pd.Series | np.ndarray, groups: pd.Series, has_user_groups: bool, settings: Folds
) -> np.ndarray:
    """Fold (N,) int of each row, shuffled with the seed.

    Rows with one stratum each are stratified with scikit-learn's splitters, rows with several labels (N, C) by
    ``iterative_folds``. Without groups of the user, byte-identical images are split as one image, so that the folds
    have nearly equal sizes. Raises FoldwiseError if there are fewer images or groups than folds, or if every class has
    fewer images than folds.

    strata: of ``Task.strata``
    groups: (N,) str of ``resolve_groups``
    has_user_groups: True if the user gave groups
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    units = groups.where(groups != "", "row " + train["image_id"])
    if units.nunique() < settings.n:
        raise InputError(
            f"{units.nunique()} images or groups cannot make {settings.n} folds; lower n of [folds] in competition.toml"
        )
    if isinstance(strata, np.ndarray):
        code, _ = pd.factorize(units)
        counts = np.zeros((code.max() + 1, strata.shape[1]), int)
        np.add.at(counts, code, strata.astype(int))
        return iterative_folds(counts, np.bincount(code), settings.n, settings.seed)[code]
    arguments = {"n_splits": settings.n, "shuffle": True, "random_state": settings.seed}
    fold = np.empty(len(train), int)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # report() has a better message about small classes
        if has_user_groups:
            for number, (_, rows) in enumerate(StratifiedGroupKFold(**arguments).split(train, strata, units)):
                fold[rows] = number
            return fold
        first = strata[~units.duplicated()]
        largest = first.value_counts().max()
        if largest < 2:
            raise InputError(
                "each class has only one image, or identical ones; folds need at least two images of some class"
            )
        if largest < settings.n:
            raise InputError(
                f"the largest class has {count_of(largest, 'image')}, fewer than {settings.n} folds; "
                "lower n of [folds] in competition.toml"
            )
        of_first = np.empty(len(first), int)
        for number, (_, rows) in enumerate(StratifiedKFold(**arguments).split(first, first)):
            of_first[rows] = number
    return units.map(dict(zip(units[first.index], of_first, strict=True))).to_numpy()


def without_empty_folds(fold: np.ndarray, units: pd.Series, number: int) -> np.ndarray:
    """The folds (N,), with one unit moved into each empty fold: the smallest of the fold with the most units.

    scikit-learn's StratifiedGroupKFold may leave a fold empty if there are few groups.

    units: (N,) the group of each row, or the row itself
    """
    fold = fold.copy()
    sizes = units.map(units.value_counts())
    for empty in sorted({*range(number)} - {*fold.tolist()}):
        fullest = units.groupby(fold).nunique().idxmax()
        chosen = sizes[fold == fullest].idxmin()
        fold[(units == units[chosen]).to_numpy()] = empty
    return fold


def require_classes(fold: np.ndarray, members: dict[str, np.ndarray]) -> None:
    """Raises FoldwiseError if the images to train a fold on are all of one class.

    members: rows of each class
    """
    for number in np.unique(fold):
        remaining = [name for name, rows in members.items() if (fold[rows] != number).any()]
        if len(remaining) == 1 < len(members):
            raise InputError(
                f"without the images of fold {number}, all images are of the class '{remaining[0]}', so that nothing "
                "could be learnt; add images or groups of other classes"
            )


def given_folds(train: pd.DataFrame, path: Path, settings: Folds) -> np.ndarray:
    """Fold (N,) int of each row, from the user's CSV; raises FoldwiseError if its ids or folds do not fit."""
    table = read_csv(path, ["image_id", "fold"])
    require_same_ids(
        train["image_id"],
        table["image_id"],
        shown(path),
        "it needs one row for each train row of manifest.csv",
    )
    table["fold"] = fold_numbers(table["fold"], settings.n, path)
    return table.set_index("image_id")["fold"].loc[train["image_id"]].to_numpy()


def make_folds(manifest: pd.DataFrame, task: Task, competition: Competition, paths: Paths) -> pd.DataFrame:
    """The table of folds.csv, in the order of the manifest's train rows."""
    train = manifest[manifest["split"] == "train"].reset_index(drop=True)
    groups = resolve_groups(train)
    if competition.folds.file is not None:
        fold = given_folds(train, paths.find(competition.folds.file), competition.folds)
        apart = pd.Series(fold).groupby(groups[groups != ""]).nunique()
        if (apart > 1).any():
            say(
                "folds",
                f"note: {shown(paths.find(competition.folds.file))} divides "
                f"{count_of(int((apart > 1).sum()), 'group')} among several folds, such as "
                f"'{apart[apart > 1].index[0]}'; the out-of-fold score will be too good",
            )
    else:
        has_user_groups = bool((train["group"] != "").any())
        fold = assign_folds(train, task.strata(train["label"]), groups, has_user_groups, competition.folds)
        units = groups.where(groups != "", "row " + train["image_id"])
        fold = without_empty_folds(fold, units, competition.folds.n)
    if task.kind in ("classification", "ordinal"):
        require_classes(fold, task.members(train["label"]))
    return train.assign(group=groups, fold=fold)[FOLDS_COLUMNS]


def report(folds: pd.DataFrame, task: Task) -> None:
    """Prints the number of images by class and fold, and notes on small classes and groups."""
    number = folds["fold"].max() + 1
    members = task.members(folds["label"])
    counts = {name: np.bincount(folds["fold"].to_numpy()[rows], minlength=number) for name, rows in members.items()}
    table = pd.DataFrame.from_dict(counts, orient="index")
    print(table.iloc[:20].rename_axis(index=None, columns="fold").to_string())
    if len(table) > 20:
        print(f"... and {count_of(len(table) - 20, f'more {task.noun}')}")
    units = folds["group"].where(folds["group"] != "", folds["image_id"])
    small = [name for name, rows in members.items() if units.iloc[rows].nunique() < number]
    if small and task.kind != "regression":
        names = ", ".join(f"'{label}'" for label in small[:3])
        say(
            "folds",
            f"note: {count_of(len(small), task.noun)} with fewer images or groups than folds ({names}): some folds "
            f"have no validation image of such a {task.noun}; the out-of-fold score still counts each image once",
        )
    shared = folds[folds["group"] != ""]
    if len(shared):
        say(
            "folds",
            f"{count_of(len(shared), 'image')} in {count_of(shared['group'].nunique(), 'group')} kept together",
        )


def run(job: Job, force: bool = False) -> pd.DataFrame:
    """Writes folds.csv and returns its table.

    Raises FoldwiseError if folds that runs were trained with would change, unless ``force``.
    """
    paths, competition = job.paths, job.competition
    target = folds_files(paths, paths.facts())
    read = target.hash_inputs()
    manifest, task = read_manifest(paths.manifest), read_task(paths, competition)
    folds = make_folds(manifest, task, competition, paths)
    text = folds.to_csv(index=False, lineterminator="\n")
    same = paths.folds.exists() and paths.folds.read_bytes() == text.encode()
    trained = [folder.relative_to(paths.runs) for folder in paths.all_trainings if (folder / "trained.json").exists()]
    runs = list(dict.fromkeys(folder.parent.as_posix() for folder in trained))
    # If only folds.csv was edited, the new folds may be those that the runs were trained with.
    known = {(made_of(paths, name) or {}).get("folds_sha256") for name in runs}
    keeps_runs_valid = same or known == {fingerprint(text)}
    if paths.folds.exists() and not keeps_runs_valid and trained and not force and not paths.dry_run:
        raise StaleError(
            f"labels, images, groups or competition.toml have changed, so the folds would change, and "
            f"{count_of(len(trained), 'trained fold')} ({', '.join(map(str, trained[:5]))}"
            f"{', ...' if len(trained) > 5 else ''}) "
            f"would become invalid; undo the change, or type: {job.call.make_line('folds')} FORCE=1"
        )
    require_written_by_foldwise(paths.folds, FOLDS_COLUMNS, paths.folds_record)
    report(folds, task)
    write_csv(paths.folds, folds)
    write_json(paths.folds_record, target.new_record(read, [paths.folds]))
    if trained and not keeps_runs_valid:
        of_runs = " ".join(shlex.quote(shown(paths.run(name))) for name in dict.fromkeys(f.parts[0] for f in trained))
        say(
            "folds",
            f"note: runs that were trained with the old folds will be refused; delete them (rm -r {of_runs}), or start "
            "new runs with another SET or RECIPE",
        )
    say(
        "folds",
        f"{count_of(len(folds), 'image')} in {competition.folds.n} folds -> {shown(paths.folds)}"
        f"{' (unchanged)' if same else ''}{job.call.next_step('train', '' if job.call.folds else ' FOLD=0')}",
    )
    return folds


def main(argv: list[str] | None = None) -> None:
    args = PARSER.parse_args(argv)
    run(job_of(args), args.force)


if __name__ == "__main__":
    run_stage(main)
