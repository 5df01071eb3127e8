"""Finds out what the files of a competition are: image folders, labels, the sample submission, ids and groups.

Everything found is a guess with a reason; tools/new.py writes it down and tries it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pandas as pd

from pipeline.formats.listing import TABLES, is_hidden_or_system, is_picture, is_pixel_table, list_files
from pipeline.records.finding import Images, find_files, list_images, template_for
from pipeline.records.paths import Paths
from pipeline.records.tables import read_csv
from pipeline.system.errors import FoldwiseError
from pipeline.tools.found import Folder, Found, Ids, choose_columns, showing, words_of

#: How many ids of a CSV are looked up, and the share that must have a file.
TRIED, ENOUGH = 300, 0.8
#: By how much the share must be greater for a later folder to be preferred.
BETTER = 0.1
SAMPLE = re.compile(r"sample|submission|submit", re.IGNORECASE)
#: Patterns that are tried on the names of files, the most common ones first.
PATTERNS = (
    r"^(?P<label>.+?)[._-](?P<id>\d+)\.[^.]+$",
    r"^(?P<label>[^\W\d_]+?)(?P<id>\d+)\.[^.]+$",
    r"^(?P<id>\d+)[._-](?P<label>.+?)\.[^.]+$",
)
MOST_CLASSES = 0.5  # the most classes, as a share of the images, that a pattern may find


def image_folders(paths: Paths) -> list[Folder]:
    """The folders with images in raw/ and images/, in the order of their depth."""
    counts: Counter[tuple[str, str, int]] = Counter()
    for base in (paths.raw, paths.images):
        for name in list_files(base) if base.is_dir() else []:
            if is_picture(base / name):
                for above in PurePosixPath(name).parents:
                    depth = len(above.parts)
                    counts[base.name, str(above) if depth else base.name, depth] += 1
    found = [Folder(base, name, number, depth) for (base, name, depth), number in counts.items()]
    return sorted(found, key=lambda folder: (folder.depth, -folder.images, folder.name))


def tables_of(paths: Paths) -> dict[str, pd.DataFrame]:
    """The CSV files in raw/ and images/ that are no tables of pixels, by the names that competition.toml may use."""
    found: dict[str, pd.DataFrame] = {}
    for base in (paths.images / TABLES, paths.raw, paths.images):
        for name in list_files(base) if base.is_dir() else []:
            path = base / name
            if not name.lower().endswith(".csv") or name in found or is_pixel_table(path):
                continue
            try:
                table = read_csv(path)
            except FoldwiseError:
                continue
            if len(table) and len(table.columns) and not is_hidden_or_system(Path(name).name):
                found[name] = table
    return found


def folders_named(folders: list[Folder], word: str) -> list[Folder]:
    """The topmost folders whose own name contains a word."""
    named = [one for one in folders if one.depth and word in PurePosixPath(one.name).name.lower()]
    top = [one for one in named if not any(other.holds(one) for other in named)]
    return [one for one in top if not re.search(r"tfrec|mask|annot|bbox", one.name.lower())]


def look(paths: Paths) -> Found:
    """Looks at the files of a competition, which are unpacked already."""
    found, folders, tables = Found(), image_folders(paths), tables_of(paths)
    if not folders:
        return found
    samples = [name for name in tables if SAMPLE.search(Path(name).name)]
    samples.sort(key=lambda name: (name.count("/"), name))
    if samples:
        found.sample = samples[0]
        if len(samples) > 1:
            found.doubts["sample"] = " or ".join(samples[1:])
    train, test = folders_named(folders, "train"), folders_named(folders, "test")
    if not train:
        rest = [one for one in folders if one not in test and not any(other.holds(one) for other in test)]
        inside = {one: sum(other.images for other in test if one.holds(other)) for one in rest}
        rest = [one._replace(images=one.images - inside[one]) for one in rest if one.images > inside[one]]
        train = [common_folder(rest)] if rest else []
    choose_train(found, train, tables, paths)
    choose_test(found, test, tables, paths)
    if found.labels not in ("", "folders"):
        choose_columns(found, tables)
    return found


def common_folder(folders: list[Folder]) -> Folder:
    """The deepest folder that has all images of the first one; of class folders, the one that contains them."""
    best = folders[0]
    for folder in folders[1:]:
        if folder.images == best.images and best.holds(folder):
            best = folder
    return best


def images_in(paths: Paths, names: list[str]) -> Images:
    return list_images(paths, names, "train")


def choose_train(found: Found, train: list[Folder], tables: dict[str, pd.DataFrame], paths: Paths) -> None:
    """Chooses the train folder, and where the labels come from."""
    candidates = sorted(train, key=lambda one: (-rank(one.name), -one.images, one.name))
    if not candidates:
        return
    best: Ids | None = None
    wanted = {*tables[found.sample].columns[1:]} if found.sample else set()
    others = {name: table for name, table in tables.items() if name != found.sample and has_labels(name, table)}
    words = words_of(tables.get(found.sample))
    submitted = {
        name: table
        for name, table in others.items()
        if (wanted and wanted <= {*table.columns}) or showing(table, words)
    }
    for folder in candidates[:6]:
        images = images_in(paths, [folder.name])
        ids = best_ids(submitted, images, paths) or best_ids(others, images, paths)
        if ids is not None and (best is None or ids.share > best.share + BETTER):
            best, found.train = ids, [folder.name]
    if best is not None:
        found.labels, found.ids = best.table, best
    else:
        found.train = [candidates[0].name]
        images = images_in(paths, found.train)
        if len(class_folders(images)) > 1:
            found.labels = "folders"
        else:
            found.pattern = pattern_for(images)
    if len(candidates) > 1:
        found.doubts["train"] = " or ".join(one.name for one in candidates if one.name not in found.train)


def class_folders(images: Images) -> set[str]:
    """The names of the folders directly in an images folder."""
    return {name.split("/")[0] for name in map(images.inside, images.names) if "/" in name}


def rank(name: str) -> int:
    """Small versions of huge images come first."""
    return 1 if "thumb" in name.lower() else 0


def has_labels(name: str, table: pd.DataFrame) -> bool:
    """True if a CSV can hold labels: it has an id and another column, and is not that of the test set."""
    return len(table.columns) > 1 and not re.match(r"test", Path(name).name, re.IGNORECASE)


def best_ids(tables: dict[str, pd.DataFrame], images: Images, paths: Paths) -> Ids | None:
    """The column of a CSV whose ids have the most files; None if too few of them have one."""
    options = [ids for name, table in tables.items() for ids in ids_of(name, table, images, paths)]
    best = max(options, key=lambda ids: ids.share, default=None)
    return best if best is not None and best.share >= ENOUGH else None


def ids_of(name: str, table: pd.DataFrame, images: Images, paths: Paths) -> Iterator[Ids]:
    """The columns of a CSV that may name files, with the share that does."""
    for column in table.columns[:12]:
        if column == "" or column.startswith("Unnamed"):  # the row numbers that pandas writes
            continue
        values = pd.Series(table[column].unique(), dtype=str)
        if len(values) < len(table) / 2:  # an id may stand in several rows
            continue
        # All ids, since only then it shows if they are counted from another number; but a few, if there are very many.
        tried = values if len(values) <= 50_000 else values.sample(TRIED, random_state=0).reset_index(drop=True)
        files = find_files(tried, images, paths.find(name))
        share = float((files.names != "").mean())
        share -= 0.05 if "counted from different numbers" in files.note else 0  # names that fit exactly are better
        template = template_for(tried.tolist(), images) if share < ENOUGH else ""
        yield Ids(name, column, template, 0.95 if template else share)


def pattern_for(images: Images) -> str:
    """A pattern that finds labels in the names of files; "" if none leaves few enough classes."""
    names = [images.inside(name).rpartition("/")[2] for name in images.names]
    for pattern in PATTERNS:
        matches = [match for name in names if (match := re.match(pattern, name))]
        classes = Counter(match["label"] for match in matches)
        if len(matches) > 0.9 * len(names) and 1 < len(classes) <= MOST_CLASSES * len(names):
            return pattern
    return ""


def choose_test(found: Found, test: list[Folder], tables: dict[str, pd.DataFrame], paths: Paths) -> None:
    """Chooses the test folders and the CSV of the ids to predict."""
    names = [found.sample] if found.sample else []
    names += [name for name in tables if re.match(r"test", Path(name).name, re.IGNORECASE) and name not in names]
    ranked = sorted(test, key=lambda one: (-rank(one.name), one.name))
    options = [[one.name] for one in ranked]
    options += [[one.name for one in test]] if len(test) > 1 else []
    options += [found.train] if found.train else []  # train and test images in one folder
    best: tuple[float, int, list[str], Ids] | None = None
    for place, folders in enumerate(options):
        images = images_in(paths, folders)
        for name in names:
            ids = best_ids({name: tables[name]}, images, paths)
            if ids is not None and (best is None or ids.share > best[0] + BETTER):
                best = (ids.share, place, folders, ids)
    if best is not None:
        found.test, found.test_ids = best[2], best[3]
    elif ranked:
        found.test = [ranked[0].name]
        if found.labels == "folders":
            of_test, of_train = (class_folders(images_in(paths, names)) for names in (found.test, found.train))
            found.test_has_classes = bool(of_test) and of_test <= of_train
