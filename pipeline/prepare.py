"""Stage 1: what you dropped into raw/ becomes images/.

    make prepare COMPETITION=dogs-vs-cats
    python -m pipeline.prepare --competition dogs-vs-cats

Reads   data/<competition>/raw/: archives as Kaggle hands them out (zip, tar; one in another is fine), images as arrays
        (HDF5, CIFAR-10's pickles; in an archive or a folder too), or plain folders, which stay where they are
Writes  data/<competition>/images/ and, last, prepared.json; for the built-in digits also test_labels.csv
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.records.archives import is_archive, unpack_all
from pipeline.records.arrays import holds_images, is_array_file, write_images
from pipeline.records.competition import Competition, load_competition
from pipeline.records.console import make_line, parser_for, paths_of, progress, run_stage, say
from pipeline.records.errors import FoldwiseError, count_of
from pipeline.records.files import read_json, temporary_beside, write_json, write_text
from pipeline.records.locks import held
from pipeline.records.paths import Paths, shown

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


def contents_of_raw(paths: Paths, competition: Competition) -> list[Path]:
    """What lies in raw/ and is this competition's."""
    wanted = competition.raw or ["*"]
    found = [path for path in sorted(paths.raw.glob("*")) if not path.name.startswith(".")]
    return [path for path in found if any(fnmatchcase(path.name, pattern) for pattern in wanted)]


def state_of(contents: list[Path]) -> list[list[Any]]:
    """Name, size and time of each thing, and of arrays in a folder: when all are as before, nothing is to be done."""
    arrays = [path for place in contents if place.is_dir() for path in sorted(place.glob("*")) if is_array_file(path)]
    return [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in [*contents, *arrays]]


def make_images(contents: list[Path], folder: Path, watched: Callable[[list, str], Iterator]) -> int:
    """Unpacks the archives and writes what comes as arrays as images; returns the number of files in ``folder``."""
    count = unpack_all([path for path in contents if is_archive(path)], folder, watched)
    unpacked = [path for path in folder.rglob("*") if is_array_file(path) and holds_images(path)]
    beside = [path for place in contents for path in (place.rglob("*") if place.is_dir() else [place])]
    arrays = [*unpacked, *(path for path in beside if path.is_file() and is_array_file(path))]
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


def prepare(paths: Paths, competition: Competition) -> str:
    """Makes images/ whole or leaves it as it was; returns what was done."""
    contents = contents_of_raw(paths, competition)
    record = {"builtin": competition.builtin, "raw": state_of(contents)}
    if paths.prepared.exists() and read_json(paths.prepared) == record:
        return "nothing new in raw/"
    if Path(competition.train.images).is_absolute():
        write_json(paths.prepared, record)
        return f"the images stay in {competition.train.images}"
    if paths.images.exists() and not paths.prepared.exists():
        raise FoldwiseError(
            f"{shown(paths.images)} was not made by this stage, which would replace it; "
            f"move what you put there to {shown(paths.raw)}/"
        )
    if not competition.builtin and not contents:
        if paths.prepared.exists() and paths.images.exists() and not any(paths.raw.glob("[!.]*")):
            return f"raw/ is empty; {shown(paths.images)} stays as it was made"
        raise missing_raw(paths, competition)

    for path in contents:
        if path.suffix.lower() in (".7z", ".rar"):
            say("prepare", f"note: {shown(path)} is left alone; unpack it yourself into {shown(paths.raw)}")

    # All of images/ is made in a folder beside it that takes its place at the end, so that it is never half full.
    temporary = temporary_beside(paths.images)
    temporary.mkdir()

    def watched(items: list, doing: str) -> Iterator:
        return progress(items, len(items), "prepare", doing)

    try:
        count = write_digits(paths, temporary) if competition.builtin else make_images(contents, temporary, watched)
        if paths.images.exists():
            shutil.rmtree(paths.images)
        temporary.replace(paths.images)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    write_json(paths.prepared, record)
    packed = [path for path in contents if is_archive(path) or is_array_file(path)]
    if not count:
        return f"{', '.join(path.name for path in contents)} in {shown(paths.raw)} can be used as it is"
    source = "the built-in digits" if competition.builtin else ", ".join(path.name for path in packed or contents)
    return f"{count_of(count, 'file')} from {source} -> {shown(paths.images)}"


def main() -> None:
    args = parser_for(__doc__).parse_args()
    paths = paths_of(args)
    competition = load_competition(paths)
    with held(paths.home / "cache" / "lock", lambda: say("prepare", "waiting for another process at work here")):
        done = prepare(paths, competition)
    say("prepare", f"{done}; next: {make_line('manifest', args)}")


if __name__ == "__main__":
    run_stage(main)
