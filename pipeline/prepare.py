"""Stage 1: unpack the files of raw/ into images/.

    make prepare COMPETITION=dogs-vs-cats
    python -m pipeline.prepare --competition dogs-vs-cats

Reads   data/<competition>/raw/: archives (zip, tar, 7z; also split, and inside archives), images stored as arrays
        (HDF5, npz, CIFAR's pickles) or as tables of pixels (CSV, parquet), also inside archives and folders; and
        folders of images, which are used where they are
Writes  data/<competition>/images/ and, last, prepared.json; for the built-in digits also test_labels.csv
"""

from __future__ import annotations

from pipeline.records.command_line import parser_for
from pipeline.system.console import answer_early

PARSER = parser_for(__doc__)
if __name__ == "__main__":  # before the imports that take seconds
    answer_early(PARSER)

import filecmp
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.formats.archives import unpack_all
from pipeline.formats.arrays import holds_images, write_images
from pipeline.formats.encoded import holds_files
from pipeline.formats.listing import HDF5, OTHER_ARCHIVES, is_archive, is_array_file, is_pixel_table, list_files
from pipeline.formats.tables import write_tables
from pipeline.records.competition import Competition, several
from pipeline.records.job import Job, job_of
from pipeline.records.paths import Paths
from pipeline.records.up_to_date import packed_files, prepare_files, raw_contents
from pipeline.system.console import progress, run_stage, say
from pipeline.system.errors import FoldwiseError, InputError, count_of
from pipeline.system.files import temporary_beside, write_json, write_text
from pipeline.system.index import Index
from pipeline.system.locks import held
from pipeline.system.places import shown

NUM_DIGITS_TEST = 360


def write_digits(paths: Paths, folder: Path) -> int:
    """Writes scikit-learn's 1,797 handwritten digits as PNG files below ``folder``; returns their number.

    The files are ``train/<label>_<number>.png`` and ``test/<id>.png``; the labels of the test images go into
    ``test_labels.csv``. The digits are 8x8 scans with grey values from 0 to 16 (Alpaydin & Kaynak, UCI 1998).
    """
    import cv2
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    pixels = np.round(digits.images * (255 / 16)).astype(np.uint8)  # (1797, 8, 8)
    train, test = train_test_split(
        np.arange(len(pixels)), test_size=NUM_DIGITS_TEST, stratify=digits.target, random_state=42
    )
    named = {f"train/{digits.target[row]}_{row}.png": row for row in sorted(train)}
    named |= {f"test/{number}.png": row for number, row in enumerate(test, start=1)}
    for name, row in named.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(cv2.imencode(".png", pixels[row])[1].tobytes())
    labels = "".join(f"{number},{digits.target[row]}\n" for number, row in enumerate(test, start=1))
    write_text(paths.home / "test_labels.csv", "id,label\n" + labels)
    return len(named)


def make_images(
    contents: list[Path], folder: Path, with_progress: Callable[[list, str], Iterator], shape: list[int] | None
) -> int:
    """Unpacks archives, and writes images that are stored as arrays as PNG files; returns the number of files made.

    Raises FoldwiseError if a folder in raw/ and a file of arrays hold the same split.

    contents: the files and folders in raw/
    folder: where the files are written
    with_progress: wraps a list for a progress bar: (items, description) -> iterator
    shape: of the images in tables of pixels
    """

    def said_otherwise(fault: FoldwiseError) -> InputError:
        """The user does not know the temporary folder."""
        return InputError(str(fault).replace(f"{shown(folder)}/", "in an archive of raw/, "))

    files = packed_files(contents)
    by_hand = {place.name for place in contents if place.is_dir()}
    archives = [path for path in contents if path.is_file() and (is_archive(path) or path.suffix in OTHER_ARCHIVES)]
    try:
        count, unopened = unpack_all(archives, folder, with_progress, by_hand)
    except InputError as fault:
        raise said_otherwise(fault) from fault
    for note in unopened:
        say("prepare", f"note: {note}")
    made = [folder / name for name in list_files(folder)]  # without files of the operating system
    tables = [path for path in made if is_pixel_table(path)]
    try:
        count += write_tables(tables, folder, with_progress, shape) - len(tables)
        count += write_tables([path for path in files if is_pixel_table(path)], folder, with_progress, shape)
    except FoldwiseError as fault:
        raise said_otherwise(fault) from fault
    for path in tables:
        path.unlink()
    unpacked = [path for path in made if is_array_file(path) and holds_images(path)]
    arrays = [*unpacked, *(path for path in files if is_array_file(path))]
    files_inside = [path for path in arrays if path.name.lower().endswith(HDF5) and holds_files(path)]
    for path in files_inside:
        stem = path.name.split(".")[0]
        if stem in by_hand or (folder / stem).is_dir():
            say("prepare", f"note: {path.name} is not unpacked, since there is a folder {stem}/ with its name")
            arrays.remove(path)
            if path in unpacked:
                unpacked.remove(path)
                path.unlink()
                count -= 1
    if not arrays:
        return count
    try:
        count += write_images(arrays, folder, with_progress) - len(unpacked)
    except FoldwiseError as fault:
        raise said_otherwise(fault) from fault
    for path in unpacked:
        path.unlink()
    for place in contents:
        if place.is_dir() and (folder / place.name).exists():
            raise InputError(
                f"{shown(place)} and {arrays[0].name} both hold {place.name} images; choose one of them in "
                f"competition.toml, such as: raw = ['{place.name}']"
            )
    return count


def missing_raw(paths: Paths, competition: Competition) -> InputError:
    """The error if there are no images; it says what to download and where to put it."""
    if competition.raw and any(paths.raw.glob("[!.]*")):
        here = ", ".join(sorted(path.name for path in paths.raw.glob("[!.]*"))[:8])
        return InputError(
            f"nothing in {shown(paths.raw)} matches raw = {competition.raw} of {shown(paths.toml)} (the folder has: "
            f"{here}); put the missing files there, or correct raw"
        )
    advice = f"put the archives or folders of the competition into {shown(paths.raw)}/"
    if competition.slug:
        advice = (
            f"accept the rules on the competition's page, then type: "
            f"kaggle competitions download {competition.slug} -p {shown(paths.raw)}   (or {advice})"
        )
    return InputError(f"no images yet for '{paths.competition}': {advice}")


def put_in_place(
    made: Path, paths: Paths, before: dict[str, Any] | None, keep_all: bool
) -> tuple[list[Path], list[Path]]:
    """Moves the files in ``made`` into images/; it can be interrupted at any moment and repeated.

    Returns the files in images/ that this stage made, and the files that it did not replace, since they are the user's.

    made: folder of the new files
    before: the record of the last run. A file that it lists is replaced, or deleted if it is no longer made, but only
        if it is unmodified. All other files in images/ belong to the user.
    keep_all: do not delete files that are no longer made
    """
    names = [path.relative_to(made) for path in sorted(made.rglob("*")) if path.is_file()]
    if not paths.images.exists():
        made.replace(paths.images)
        return [paths.images / name for name in names], []
    index = Index(paths.home)
    recorded = before["made"] if before else {}

    def is_unmodified(path: Path) -> bool:
        """True if this stage made the file, and the user has not changed it."""
        return recorded.get(index.key(path), "") == index.sha256(path)

    placed, left = [], []
    for name in names:
        target = paths.images / name
        folders = [folder for folder in target.parents if folder.is_relative_to(paths.images)]
        # A link leads to files of the user; images/ itself may be one.
        if any(place.is_symlink() for place in [target, *folders] if place != paths.images):
            left.append(target)
            continue
        if target.exists() and not (
            target.is_file() and (filecmp.cmp(made / name, target, False) or is_unmodified(target))
        ):
            left.append(target)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        (made / name).replace(target)
        placed.append(target)
    still_made = {paths.images / name for name in names}
    for path in map(index.file, recorded):
        if path in still_made or not path.is_relative_to(paths.images) or not is_unmodified(path):
            continue
        if keep_all:
            placed.append(path)
        else:
            path.unlink()
            with suppress(OSError):  # the folder is not empty
                path.parent.rmdir()
    return placed, left


def require_no_user_files(made: Path, paths: Paths, competition: Competition) -> None:
    """Raises FoldwiseError if images/ has files that this stage did not make, unless competition.toml uses them."""
    sources = several(competition.train.images) + (several(competition.test.images) if competition.test else [])
    places = [place for name in sources if (place := paths.find_optional(name)) is not None]
    if any(place.is_relative_to(paths.images) for place in places):
        return
    if any(path.is_file() and not (made / path.relative_to(paths.images)).exists() for path in paths.images.rglob("*")):
        raise InputError(
            f"{shown(paths.images)} has files that this stage did not make, and it would add its own; "
            f"move your files to {shown(paths.raw)}/"
        )


def has_images(paths: Paths, source: str, before: dict[str, Any] | None) -> bool:
    """True if there are images in the folder ``source`` that this stage did not make, or it is an absolute path."""
    place = paths.find_optional(source)
    if place is None:
        return Path(source).is_absolute()  # if it is missing, the manifest stage says so
    index, made = Index(paths.home), before["made"] if before else {}
    return any(index.key(place / name) not in made for name in list_files(place))


def prepare(paths: Paths, competition: Competition) -> str:
    """Updates images/ if raw/ has changed; returns a message that says what was done."""
    facts, index = (paths.facts() if paths.toml.exists() else {}), Index(paths.home)
    contents, target = raw_contents(paths, facts), prepare_files(paths, facts)
    if not target.reason_to_run(index):
        return "nothing new in raw/"
    sources, before = several(competition.train.images), target.last_record()
    lost = target.deleted_inputs(before, index) if before else {}  # deleted archives; the images from them stay
    if not competition.builtin and not contents and not any(has_images(paths, name, before) for name in sources):
        raise missing_raw(paths, competition)

    read = target.hash_inputs()
    # All files are made in a temporary folder first, so that an error leaves images/ unchanged.
    temporary = temporary_beside(paths.images)
    temporary.mkdir()

    def with_progress(items: list, doing: str) -> Iterator:
        return progress(items, len(items), "prepare", doing)

    try:
        count = (
            write_digits(paths, temporary)
            if competition.builtin
            else make_images(contents, temporary, with_progress, competition.pixel_shape)
        )
        if not paths.prepared.exists() and paths.images.exists():
            require_no_user_files(temporary, paths, competition)
        made, left = put_in_place(temporary, paths, before, keep_all=bool(lost))
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    labels = [paths.home / "test_labels.csv"] if competition.builtin else []
    write_json(paths.prepared, target.new_record(lost | read, [*made, *labels]))
    if lost:
        names = ", ".join(index.file(key).name for key in lost)
        say("prepare", f"note: no longer in raw/: {names}; the files unpacked from there stay in {shown(paths.images)}")
    if left:
        say(
            "prepare",
            f"note: {count_of(len(left), 'file')} in {shown(paths.images)}, such as {shown(left[0])}, will not be "
            "replaced, since the content differs from raw/; to unpack them, delete them and run the same command again",
        )
    if all(Path(name).is_absolute() for name in sources):
        return f"the images are read from {', '.join(sources)}"
    if not count:
        names = ", ".join(path.name for path in contents)
        return f"nothing to unpack in {shown(paths.raw)}, which has: {names}" if contents else "raw/ is empty"
    packed = ", ".join(dict.fromkeys(Path(path).name for path in target.inputs))
    return f"{count_of(count, 'file')} from {packed or 'the built-in digits'} -> {shown(paths.images)}"


def run(job: Job) -> str:
    """Updates images/; returns a message that says what was done."""
    with held(
        job.paths.home / "cache" / "lock",
        lambda: say("prepare", "waiting for another process that unpacks or decodes these images"),
    ):
        done = prepare(job.paths, job.competition)
    say("prepare", f"{done}{job.call.next_step('manifest')}")
    return done


def main(argv: list[str] | None = None) -> None:
    run(job_of(PARSER.parse_args(argv), needs_toml=False))


if __name__ == "__main__":
    run_stage(main)
