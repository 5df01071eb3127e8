"""Lists the files of image folders, and finds the file for each id of a CSV.

Legend: a name is a file's POSIX path relative to its images folder.
"""

from __future__ import annotations

import difflib
import os
import re
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pandas as pd

from pipeline.formats.listing import PICTURES, list_files
from pipeline.records.competition import several
from pipeline.records.paths import Paths
from pipeline.records.patterns import FIELD
from pipeline.records.spelling import plain
from pipeline.system.errors import InputError, count_of, suggestion
from pipeline.system.places import shown

#: Above these numbers, the nearest name to a missing one is not looked for, since that takes too long.
MOST_NAMES, MOST_MISSING = 20_000, 3


class Images(NamedTuple):
    """The files in the folders that ``images`` of competition.toml names.

    folder: the folder; if there are several, the folder that contains all of them
    names: paths of the files relative to ``folder``, sorted
    tops: the folders relative to ``folder``, with a slash at the end; "" for ``folder`` itself
    """

    folder: Path
    names: list[str]
    tops: tuple[str, ...] = ("",)

    def inside(self, name: str) -> str:
        """The path of a file relative to the folder that ``images`` names."""
        return name[max((len(top) for top in self.tops if name.startswith(top)), default=0) :]


def list_images(paths: Paths, images: str | list[str], split: str) -> Images:
    """The files of the image folders of a split; raises FoldwiseError if one is missing, or not a folder."""
    places = [paths.find_folder(name) or paths.find(name) for name in several(images)]
    for place in places:
        if not place.is_dir():
            raise InputError(f"[{split}] images = '{place.name}': {shown(place)} is not a folder")
    folder = Path(os.path.commonpath(places))
    tops = [place.relative_to(folder).as_posix() + "/" if place != folder else "" for place in places]
    names = {top + name for top, place in zip(tops, places, strict=True) for name in list_files(place)}
    return Images(folder, sorted(names), tuple(tops))


def require_some(images: Images, split: str) -> None:
    """Raises FoldwiseError if the folders are empty."""
    if not images.names:
        raise InputError(f"[{split}] images: {shown(images.folder)} is empty; put the {split} images there")


def without_extension(name: str) -> str:
    """``frog/0001.png`` -> ``frog/0001``."""
    return str(PurePosixPath(name).with_suffix(""))


def with_fields(template: str, table: pd.DataFrame, ids: pd.Series, path: Path) -> pd.Series:
    """The file name (N,) of each row: ``{id}_left.png`` or ``{id[0]}/{id}.jpg`` with the values of the row.

    Raises FoldwiseError if the template names a column that the CSV lacks.
    """
    columns = {"id": ids}
    for name, *_ in FIELD.findall(template):
        if name not in columns and name not in table.columns:
            raise InputError(
                f"file_name = '{template}' names the column '{name}', but {shown(path)} has none"
                f"{suggestion(name, table.columns)}"
            )
        columns[name] = ids if name == "id" else table[name]

    def value(row: int, field: re.Match[str]) -> str:
        name, position, start, end = field.groups()
        text = columns[name].iloc[row].strip()
        if position is not None:
            return text[int(position)] if -len(text) <= int(position) < len(text) else ""
        return text[int(start) if start else None : int(end) if end else None]

    return pd.Series([FIELD.sub(partial(value, row), template) for row in range(len(table))], dtype=str)


class Found(NamedTuple):
    """The files of ids.

    names: (N,) the file of each id, "" if there is none
    reasons: why an id has no file, by the id
    note: what the user should know; "" for nothing
    """

    names: pd.Series
    reasons: dict[str, str]
    note: str = ""


def find_files(wanted: pd.Series, images: Images, path: Path) -> Found:
    """The file of each id or file name in a CSV.

    An id is the path of the file, with or without extension, else its name in any subfolder, if only one file fits.
    Upper and lower case, blanks at the ends, the form of Unicode, a leading "./" and another extension of an image make
    no difference, if only one file and one id fit.
    """
    found = by_number(wanted, images, path)
    if found is not None:
        return found
    chosen = dict.fromkeys(wanted, "")
    reasons: dict[str, str] = {}
    respelled = []
    for form, is_respelled in FORMS:
        left = [name for name in chosen if not chosen[name] and name not in reasons]
        if not left:
            break
        index = index_of(images, form)
        matches = {name: index[key] for name in left if (key := form(name)) in index}
        if form in BY_LAST_PART:  # the folder that an id names must be that of the file
            matches = {name: files for name, files in matches.items() if fits_folder(name, files, images)}
        for name in left:
            other = without_image_extension(name)
            if name in matches or other == name or (files := index.get(form(other))) is None:
                continue
            if form not in BY_LAST_PART or fits_folder(other, files, images):
                matches[name] = files
        claims = Counter(files[0] for files in matches.values() if len(files) == 1)
        taken = {file for file in chosen.values() if file}
        for name, files in matches.items():
            if len(files) > 1:
                reasons[name] = f"several files fit it, such as '{files[0]}' and '{files[1]}'"
            elif files[0] in taken or claims[files[0]] > 1:
                reasons[name] = f"the file '{files[0]}' fits another id too"
            else:
                chosen[name] = files[0]
                respelled += [(name, files[0])] if is_respelled else []
    note = ""
    if respelled:
        name, file = respelled[0]
        note = (
            f"{count_of(len(respelled), 'id')} of {path.name} {'is' if len(respelled) == 1 else 'are'} written "
            f"otherwise than the file, such as '{name}' for '{file}'"
        )
    missing = [name for name in chosen if not chosen[name] and name not in reasons]
    return Found(wanted.map(chosen), reasons | dict.fromkeys(missing, advice_for(missing, images)), note)


def same(name: str) -> str:
    return name


def spelling(name: str) -> str:
    """The path without what differs only in spelling."""
    return plain(name.replace("\\", "/")).removeprefix("./").removeprefix("/").casefold()


def last_part(name: str) -> str:
    """The name without folders."""
    return name.rpartition("/")[2]


def last_part_in_spelling(name: str) -> str:
    return last_part(spelling(name))


#: The forms in which an id and a file are compared, in this order, and whether they differ in spelling.
FORMS: list[tuple[Callable[[str], str], bool]] = [
    (same, False),
    (spelling, True),
    (last_part, False),
    (last_part_in_spelling, True),
]
BY_LAST_PART = (last_part, last_part_in_spelling)


def fits_folder(name: str, files: list[str], images: Images) -> bool:
    """True if an id without folder, or one whose folder is the end of the path of the file.

    The id ``train/1.png`` is the file ``1.png`` in a folder ``train``, but ``cat/1.png`` is not ``dog/1.png``.
    """
    wanted = spelling(name)
    if "/" not in wanted or len(files) > 1:
        return True
    path = spelling(f"{images.folder.as_posix()}/{files[0]}")
    return any(f"/{text}".endswith(f"/{wanted}") for text in (path, without_extension(path)))


def index_of(images: Images, form: Callable[[str], str]) -> dict[str, list[str]]:
    """The files by a form of their names, with and without extension."""
    index: dict[str, list[str]] = {}
    whole: dict[str, list[str]] = {}
    for name in images.names:
        inside = images.inside(name)
        for key in {form(name), form(inside)}:
            whole.setdefault(key, []).append(name)
        for key in {form(without_extension(name)), form(without_extension(inside))}:
            index.setdefault(key, []).append(name)
    return index | whole  # "a.b" is the file with this name rather than "a.b.png"


def without_image_extension(name: str) -> str:
    """The id without the extension of an image; other endings, as in ``1.2.840``, belong to the id."""
    return without_extension(name) if PurePosixPath(name).suffix.lower() in PICTURES else name


def by_number(wanted: pd.Series, images: Images, path: Path) -> Found | None:
    """The files (N,) if the ids are counted from 1 and the files from 0, or the reverse; else None.

    This is so if more ids have a file when they are counted so. Looked up by name, almost every id would get the image
    of its neighbour.
    """
    stems = {last_part(without_extension(name)): name for name in images.names}
    files = {int(stem): name for stem, name in stems.items() if is_number(stem)}
    if len(files) < 2 or len(files) < 0.9 * len(images.names) or not all(map(is_number, wanted)):
        return None
    numbers = wanted.astype(int)
    first_id, first_file = int(numbers.min()), min(files)
    if {first_id, first_file} != {0, 1}:
        return None
    shift = first_file - first_id
    if (numbers + shift).isin(files).sum() <= numbers.isin(files).sum():
        return None
    note = (
        f"the ids of {path.name} are {first_id} to {numbers.max()}, but the files {first_file} to {max(files)}: they "
        f"are counted from different numbers, so that id {first_id} is the file '{files[first_file]}', and so on"
    )
    names = numbers.map(lambda number: files.get(number + shift, ""))
    return Found(names, dict.fromkeys(wanted[names == ""], "the ids and the files are counted differently"), note)


def is_number(text: str) -> bool:
    """True for digits only."""
    return text.isascii() and text.isdecimal() and len(text) < 19


def template_for(ids: list[str], images: Images) -> str:
    """How the files of ids are named, such as ``{id}_thumbnail.png``; "" if more than a tenth are not named so."""
    longest = without_image_extension(max(ids, key=len).strip())  # in the fewest of the names
    holding = [name for name in images.names if longest and longest in last_part(name)][:2]
    if len(holding) != 1:
        return ""
    template = last_part(holding[0]).replace(longest, "{id}", 1)
    stems = {last_part(name) for name in images.names}
    named = [template.replace("{id}", without_image_extension(name.strip())) for name in ids]
    return template if sum(name in stems for name in named) > 0.9 * len(named) else ""


def advice_for(missing: list[str], images: Images) -> str:
    """What the user can do about ids without file: how the files are named, or the nearest name; "" if unknown."""
    if not missing or not images.names:
        return ""
    if template := template_for(missing, images):
        return f"the files are named otherwise; set file_name = '{template}' in competition.toml"
    if len(images.names) <= MOST_NAMES and len(missing) <= MOST_MISSING:
        near = difflib.get_close_matches(missing[0], images.names, n=1, cutoff=0.6)
        return f"the nearest name is '{near[0]}'" if near else ""
    return f"the files are such as '{images.names[0]}'"
