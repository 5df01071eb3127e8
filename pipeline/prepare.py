"""Stage 1: what you dropped into raw/ becomes images/.

    make prepare COMPETITION=dogs-vs-cats
    python -m pipeline.prepare --competition dogs-vs-cats

Reads   data/<competition>/raw/: archives as Kaggle hands them out (zip, tar; one in another is fine), images as arrays
        (HDF5, CIFAR-10's pickles; in an archive or a folder too), or plain folders, which stay where they are
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
from pipeline.formats.listing import is_archive, is_array_file, list_files
from pipeline.records.competition import Competition
from pipeline.records.job import Job, job_of
from pipeline.records.paths import Paths
from pipeline.records.up_to_date import prepare_target, raw_contents, to_unpack
from pipeline.system.console import progress, run_stage, say
from pipeline.system.errors import FoldwiseError, count_of
from pipeline.system.files import temporary_beside, write_json, write_text
from pipeline.system.index import Index
from pipeline.system.locks import held
from pipeline.system.places import shown
from pipeline.system.toml import read_toml

NUM_DIGITS_TEST = 360


def write_digits(paths: Paths, folder: Path) -> int:
    """scikit-learn's 1,797 handwritten digits (8x8 scans, 16 grey levels; Alpaydin & Kaynak, UCI 1998) as
    ``train/<label>_<number>.png`` and ``test/<id>.png``, the labels of the test images kept aside."""
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


def make_images(contents: list[Path], folder: Path, watched: Callable[[list, str], Iterator]) -> int:
    """Unpacks the archives and writes what comes as arrays as images; returns the number of files in ``folder``."""
    files = to_unpack(contents)
    count = unpack_all([path for path in files if is_archive(path)], folder, watched)
    unpacked = [path for path in folder.rglob("*") if is_array_file(path) and holds_images(path)]
    arrays = [*unpacked, *(path for path in files if is_array_file(path))]
    if not arrays:
        return count
    try:
        count += write_images(arrays, folder, watched) - len(unpacked)
    except FoldwiseError as fault:  # the user knows the archive, and not where it was unpacked to
        raise FoldwiseError(str(fault).replace(f"{shown(folder)}/", "in an archive of raw/, ")) from fault
    for path in unpacked:
        path.unlink()
    for place in contents:
        if place.is_dir() and (folder / place.name).exists():
            raise FoldwiseError(
                f"{shown(place)} and {arrays[0].name} both hold {place.name} images; name the one that is meant in "
                f"competition.toml: raw = ['{place.name}']"
            )
    return count


def missing_raw(paths: Paths, competition: Competition) -> FoldwiseError:
    """What to download, and where to put it."""
    if competition.raw and any(paths.raw.glob("[!.]*")):
        here = ", ".join(sorted(path.name for path in paths.raw.glob("[!.]*"))[:8])
        return FoldwiseError(
            f"{shown(paths.raw)} holds nothing of what {shown(paths.toml)} names, raw = {competition.raw} (it holds: "
            f"{here}); put that there, or name what is there"
        )
    advice = f"put the archives or folders of the competition into {shown(paths.raw)}/"
    if competition.slug:
        advice = (
            f"accept the rules on the competition's page, then type: "
            f"kaggle competitions download {competition.slug} -p {shown(paths.raw)}   (or {advice})"
        )
    return FoldwiseError(f"no images yet for '{paths.competition}': {advice}")


def put_in_place(
    made: Path, paths: Paths, before: dict[str, Any] | None, keep_all: bool
) -> tuple[list[Path], list[Path]]:
    """Moves what was made into images/; returns the files that are now there as they were made, and those that were
    left as the user had changed them. It can be interrupted at any moment and done again.

    before: the record of the last time. What that lists is replaced, and removed where it is not made any more (unless
    ``keep_all``), but only while it is still as it was recorded: everything else in images/ is the user's.
    """
    names = [path.relative_to(made) for path in sorted(made.rglob("*")) if path.is_file()]
    if not paths.images.exists():
        made.replace(paths.images)
        return [paths.images / name for name in names], []
    index = Index(paths.home)
    recorded = before["made"] if before else {}

    def is_ours(path: Path) -> bool:
        return recorded.get(index.key(path), "") == index.sha256(path)

    placed, left = [], []
    for name in names:
        target = paths.images / name
        below = [target, *(folder for folder in target.parents if folder.is_relative_to(paths.images))]
        if any(place.is_symlink() for place in below if place != paths.images):  # it leads to what is the user's
            left.append(target)
            continue
        if target.exists() and not (target.is_file() and (filecmp.cmp(made / name, target, False) or is_ours(target))):
            left.append(target)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        (made / name).replace(target)
        placed.append(target)
    still_made = {paths.images / name for name in names}
    for path in map(index.file, recorded):
        if path in still_made or not path.is_relative_to(paths.images) or not is_ours(path):
            continue
        if keep_all:
            placed.append(path)
        else:
            path.unlink()
            with suppress(OSError):  # the folder holds something else
                path.parent.rmdir()
    return placed, left


def require_known(made: Path, paths: Paths, competition: Competition) -> None:
    """Raises FoldwiseError for an images/ that this stage did not make and the competition does not use."""
    sources = [competition.train.images, *([competition.test.images] if competition.test else [])]
    places = [place for name in sources if (place := paths.seek(name)) is not None]
    if any(place.is_relative_to(paths.images) for place in places):
        return
    if any(path.is_file() and not (made / path.relative_to(paths.images)).exists() for path in paths.images.rglob("*")):
        raise FoldwiseError(
            f"{shown(paths.images)} was not made by this stage, which would add to it; "
            f"move what you put there to {shown(paths.raw)}/"
        )


def has_images(paths: Paths, source: str, before: dict[str, Any] | None) -> bool:
    """Whether the train images are somewhere else than in raw/, other than where this stage put them."""
    place = paths.seek(source)
    if place is None:
        return Path(source).is_absolute()  # the manifest says what is wrong
    index, made = Index(paths.home), before["made"] if before else {}
    return any(index.key(place / name) not in made for name in list_files(place))


def prepare(paths: Paths, competition: Competition) -> str:
    """Brings images/ up to date with raw/, or leaves it as it was; returns what was done."""
    facts, index = read_toml(paths.toml), Index(paths.home)
    contents, target = raw_contents(paths, facts), prepare_target(paths, facts)
    if not target.why(index):
        return "nothing new in raw/"
    source, before = competition.train.images, target.before()
    lost = target.lost(before, index) if before else {}  # the only source of some images may be gone: they stay
    if not competition.builtin and not contents and not has_images(paths, source, before):
        raise missing_raw(paths, competition)

    for path in contents:
        if path.suffix.lower() in (".7z", ".rar"):
            say("prepare", f"note: {shown(path)} is left alone; unpack it yourself into {shown(paths.raw)}")

    read = target.read_now()
    # All is made in a folder beside images/ first: what cannot be unpacked whole changes nothing there.
    temporary = temporary_beside(paths.images)
    temporary.mkdir()

    def watched(items: list, doing: str) -> Iterator:
        return progress(items, len(items), "prepare", doing)

    try:
        count = write_digits(paths, temporary) if competition.builtin else make_images(contents, temporary, watched)
        if not paths.prepared.exists() and paths.images.exists():
            require_known(temporary, paths, competition)
        made, left = put_in_place(temporary, paths, before, keep_all=bool(lost))
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    labels = [paths.home / "test_labels.csv"] if competition.builtin else []
    write_json(paths.prepared, target.written(lost | read, [*made, *labels]))
    if lost:
        names = ", ".join(index.file(key).name for key in lost)
        say("prepare", f"note: {names} is gone from raw/; what was unpacked from it stays in {shown(paths.images)}")
    if left:
        say(
            "prepare",
            f"note: {count_of(len(left), 'file')} in {shown(paths.images)}, such as {shown(left[0])}, differ from what "
            "raw/ holds and stay as they are; delete them and type the same again to have them unpacked",
        )
    if Path(source).is_absolute():
        return f"the images stay in {source}"
    if not count:
        names = ", ".join(path.name for path in contents)
        return f"{names} in {shown(paths.raw)} can be used as it is" if contents else "raw/ is empty"
    packed = ", ".join(dict.fromkeys(Path(path).name for path in target.files))
    return f"{count_of(count, 'file')} from {packed or 'the built-in digits'} -> {shown(paths.images)}"


def run(job: Job) -> str:
    """Brings images/ up to date; returns a sentence that says what was done."""
    with held(job.paths.home / "cache" / "lock", lambda: say("prepare", "waiting for another process at work here")):
        done = prepare(job.paths, job.competition)
    say("prepare", f"{done}{job.call.next_step('manifest')}")
    return done


def main(argv: list[str] | None = None) -> None:
    run(job_of(PARSER.parse_args(argv)))


if __name__ == "__main__":
    run_stage(main)
