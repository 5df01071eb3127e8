"""Stage 3: stratified folds, made once.

    make folds COMPETITION=dogs-vs-cats
    python -m pipeline.folds --competition dogs-vs-cats

Reads   manifest.csv, or also the CSV of your own that [folds] file names (image_id, fold)
Writes  folds.csv (image_id, label, group, fold); rows of a group, and byte-identical images, share a fold
"""

from __future__ import annotations

from pipeline.records.command_line import parser_for
from pipeline.system.console import answer_early

PARSER = parser_for(__doc__)
PARSER.add_argument("--force", action="store_true", help="replace folds that runs were made with")
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
    require_ours,
    require_same_ids,
    sorted_ids,
    write_csv,
)
from pipeline.records.task import task_of
from pipeline.records.up_to_date import folds_target
from pipeline.system.console import run_stage, say
from pipeline.system.errors import FoldwiseError, count_of
from pipeline.system.files import fingerprint, write_json
from pipeline.system.places import shown
from pipeline.system.toml import read_toml


def resolve_groups(train: pd.DataFrame) -> pd.Series:
    """The group of each row: rows that share the user's group or their bytes, directly or in a chain, share it.

    A row alone has an empty group. A group is named after its first row.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    named = train["group"].where(train["group"] != "", "row " + train["image_id"])
    by_name, by_bytes = (pd.factorize(column)[0] for column in (named, train["sha256"]))
    # Rows are the edges between the two kinds of nodes: each joins its named group to its bytes.
    nodes = by_name.max() + 1 + by_bytes.max() + 1
    edges = coo_array((np.ones(len(train), np.int8), (by_name, by_name.max() + 1 + by_bytes)), shape=(nodes, nodes))
    component = pd.Series(connected_components(edges, directed=False)[1][by_name])
    first = (
        train["group"].where(train["group"] != "", train["image_id"]).groupby(component.to_numpy()).transform("first")
    )
    return first.where((component.map(component.value_counts()) > 1).to_numpy() | (train["group"] != ""), "")


def assign_folds(train: pd.DataFrame, groups: pd.Series, has_real_groups: bool, settings: Folds) -> np.ndarray:
    """Fold (N,) of each row. Stratified by label with scikit-learn's splitters, shuffled by the seed.

    Without groups of the user's, byte-identical images are split as one image, so that folds keep equal sizes.
    Raises FoldwiseError when there are fewer images or groups than folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    units = groups.where(groups != "", "row " + train["image_id"])
    if units.nunique() < settings.n:
        raise FoldwiseError(
            f"{units.nunique()} images or groups cannot make {settings.n} folds; lower n of [folds] in competition.toml"
        )
    arguments = {"n_splits": settings.n, "shuffle": True, "random_state": settings.seed}
    fold = np.empty(len(train), int)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # small classes are said in our own words
        if has_real_groups:
            for number, (_, rows) in enumerate(StratifiedGroupKFold(**arguments).split(train, train["label"], units)):
                fold[rows] = number
            return fold
        first = train[~units.duplicated()]
        largest = first["label"].value_counts().max()
        if largest < settings.n:
            raise FoldwiseError(
                f"the largest class has {count_of(largest, 'image')}, fewer than {settings.n} folds; "
                "lower n of [folds] in competition.toml"
            )
        of_first = np.empty(len(first), int)
        for number, (_, rows) in enumerate(StratifiedKFold(**arguments).split(first, first["label"])):
            of_first[rows] = number
    return units.map(dict(zip(units[first.index], of_first, strict=True))).to_numpy()


def given_folds(train: pd.DataFrame, path: Path, settings: Folds) -> np.ndarray:
    """Fold (N,) of each row from the user's own CSV; raises FoldwiseError when it does not fit the train rows."""
    table = read_csv(path, ["image_id", "fold"])
    require_same_ids(
        train["image_id"],
        table["image_id"],
        shown(path),
        "it needs one row for each train row of manifest.csv",
    )
    table["fold"] = fold_numbers(table["fold"], settings.n, path)
    return table.set_index("image_id")["fold"].loc[train["image_id"]].to_numpy()


def make_folds(manifest: pd.DataFrame, competition: Competition, paths: Paths) -> pd.DataFrame:
    """The table of folds.csv, in the order of the manifest's train rows."""
    train = manifest[manifest["split"] == "train"].reset_index(drop=True)
    groups = resolve_groups(train)
    if competition.folds.file is not None:
        fold = given_folds(train, paths.find(competition.folds.file), competition.folds)
        apart = pd.Series(fold).groupby(groups[groups != ""]).nunique()
        if (apart > 1).any():
            say(
                "folds",
                f"note: {shown(paths.find(competition.folds.file))} splits {count_of(int((apart > 1).sum()), 'group')} "
                f"of rows that belong together, such as '{apart[apart > 1].index[0]}'; their score is too good",
            )
    else:
        strata = task_of(competition, train["label"]).strata(train["label"])
        has_real_groups = bool((train["group"] != "").any())
        fold = assign_folds(train.assign(label=strata), groups, has_real_groups, competition.folds)
    return train.assign(group=groups, fold=fold)[FOLDS_COLUMNS]


def report(folds: pd.DataFrame) -> None:
    """Prints classes by fold, and what small classes mean."""
    table = pd.crosstab(folds["label"], folds["fold"]).loc[sorted_ids(folds["label"].unique())]
    shown_rows = table if len(table) <= 20 else table.iloc[:20]
    print(shown_rows.rename_axis(index=None, columns="fold").to_string())
    if len(table) > 20:
        print(f"... and {len(table) - 20} more classes")
    small = table[(table == 0).any(axis=1)]
    if len(small):
        names = ", ".join(f"'{label}'" for label in small.index[:3])
        say(
            "folds",
            f"note: {count_of(len(small), 'class')} with fewer images or groups than folds ({names}): some folds "
            "validate none of it; the score counts each image once all the same",
        )
    shared = folds[folds["group"] != ""]
    if len(shared):
        say(
            "folds",
            f"{count_of(len(shared), 'image')} in {count_of(shared['group'].nunique(), 'group')} kept together",
        )


def run(job: Job, force: bool = False) -> pd.DataFrame:
    """Writes folds.csv and returns its table.

    force: replace folds that runs were trained with. Raises FoldwiseError if they would change without it.
    """
    paths, competition = job.paths, job.competition
    target = folds_target(paths, read_toml(paths.toml))
    read = target.read_now()
    folds = make_folds(read_manifest(paths.manifest), competition, paths)
    text = folds.to_csv(index=False, lineterminator="\n")
    same = paths.folds.exists() and paths.folds.read_bytes() == text.encode()
    trained = sorted(
        path.parent.parent.name + "/" + path.parent.name for path in paths.runs.glob("*/fold*/trained.json")
    )
    # If only folds.csv was edited, the new one may be the one that the runs were trained with.
    known = {(made_of(paths, name.split("/")[0]) or {}).get("folds_sha256") for name in trained}
    fits = same or known == {fingerprint(text)}
    if paths.folds.exists() and not fits and trained and not force and not paths.dry_run:
        raise FoldwiseError(
            f"labels, images, groups or the facts have changed and would make other folds, but "
            f"{count_of(len(trained), 'trained fold')} ({', '.join(trained[:5])}{', ...' if len(trained) > 5 else ''}) "
            f"would become invalid; undo the change, or type: {job.call.make_line('folds')} FORCE=1"
        )
    require_ours(paths.folds, FOLDS_COLUMNS, paths.folds_record)
    report(folds)
    write_csv(paths.folds, folds)
    write_json(paths.folds_record, target.written(read, [paths.folds]))
    if trained and not fits:
        runs = sorted({name.split("/")[0] for name in trained})
        of_runs = " ".join(shlex.quote(shown(paths.run(name))) for name in runs)
        say("folds", f"note: runs of the old folds will be refused; delete them (rm -r {of_runs}) or name new ones")
    say(
        "folds",
        f"{count_of(len(folds), 'image')} in {competition.folds.n} folds -> {shown(paths.folds)}"
        f"{' (unchanged)' if same else ''}{job.call.next_step('train', ' FOLD=0')}",
    )
    return folds


def main(argv: list[str] | None = None) -> None:
    args = PARSER.parse_args(argv)
    run(job_of(args), args.force)


if __name__ == "__main__":
    run_stage(main)
