"""Inputs that chance has damaged: a thousand images, and three hundred of each kind of table and settings file.

Whatever the damage, there is a result or one sentence: never a crash, a hang, a traceback, or a black square.
"""

from __future__ import annotations

import io
import os
import random
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageOps

import pipeline.folds
from pipeline.driver.options import Options
from pipeline.driver.plan import make_plan
from pipeline.ensemble import load_fold
from pipeline.learner.models import build_model
from pipeline.manifest import make_manifest
from pipeline.pixels.augment import eval_transforms, train_transforms
from pipeline.pixels.cache import open_pixels, readable_rows
from pipeline.pixels.decode import decode, decode_to_side
from pipeline.records.competition import load_competition
from pipeline.records.job import make_job
from pipeline.records.paths import Paths
from pipeline.records.recipe import load_recipe
from pipeline.records.submission import rehearse_submission
from pipeline.records.tables import read_folds, read_manifest
from pipeline.records.task import Classification
from pipeline.system.errors import FoldwiseError
from tests.conftest import Stage

CHECKOUT = Path(pipeline.folds.__file__).parents[1]

# --- images -----------------------------------------------------------------------------------------------------

FORMATS = {".png": "PNG", ".gif": "GIF", ".webp": "WEBP", ".bmp": "BMP", ".tif": "TIFF", ".jpg": "JPEG", ".ppm": "PPM"}

SHAPES = Classification(["circle", "square"])


@pytest.fixture
def originals(shared_data: Path) -> list[tuple[str, bytes]]:
    """Real photographs, as they are and saved in other formats: (extension, content)."""
    found = []
    with zipfile.ZipFile(shared_data / "dogs-vs-cats" / "train.zip") as archive:
        names = [name for name in archive.namelist() if name.endswith(".jpg")][::100]
        for name in names:
            found.append((".jpg", archive.read(name)))
            small = Image.open(io.BytesIO(found[-1][1])).convert("RGB").resize((97, 61))
            for suffix, kind in FORMATS.items():
                buffer = io.BytesIO()
                small.save(buffer, kind, **({"progressive": True} if kind == "JPEG" else {}))
                found.append((suffix, buffer.getvalue()))
    return found


def damaged(content: bytes, others: list[tuple[str, bytes]], rng: random.Random) -> bytes:
    """The content with flipped bytes, cut, filled with zeros, with something put in, or with another file's header."""
    changed, at = bytearray(content), rng.randrange(len(content))
    kind = rng.choice(["flip", "cut", "zeros", "insert", "header", "none"])
    if kind == "flip":
        for _ in range(rng.choice([1, 3, 40])):
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    elif kind == "cut":
        del changed[at:]
    elif kind == "zeros":
        changed[at : at + 64] = bytes(len(changed[at : at + 64]))
    elif kind == "insert":
        changed[at:at] = rng.randbytes(16)
    elif kind == "header":
        length = rng.choice([2, 4, 8, 16, 64])
        changed[:length] = rng.choice(others)[1][:length]
    return bytes(changed)


def odd_name(number: int, suffix: str, rng: random.Random) -> str:
    """A file name that may have another extension, none, or letters that trip up careless code."""
    label = rng.choice(["cat", "dog", "CAT", "", "ca t", "größe", "日本", "=1+1", "a,b", 'q"', "x" * 180, "nan", "-"])
    suffix = rng.choice([suffix, suffix, suffix.upper(), ".jpg", ".png", "", ".txt", ".jpg.exe"])
    return f"{label}{rng.choice('_._. ') if label else '_'}{number}{suffix}"  # a name with a dot first is no image's


MUTATED_TOML = """
title = "Mutated"
[train]
images = "train"
pattern = '(?i)^(?P<label>cat|dog)[._](?P<id>\\d+)'
max_bad = 1
[folds]
n = 2
"""


def empty_competition(root: Path) -> Path:
    """The folder of a competition whose train images are still to be put into raw/train."""
    home = root / "data" / "mutated"
    (home / "raw" / "train").mkdir(parents=True)
    (home / "competition.toml").write_text(MUTATED_TOML)
    return home


def test_a_thousand_damaged_images_are_read_alike_everywhere_or_named(
    root: Path, originals: list[tuple[str, bytes]]
) -> None:
    """Damaged before the manifest, which runs as a process, so that a crash would show."""
    rng, home = random.Random(0), empty_competition(root)
    for number in range(1000):
        suffix, content = rng.choice(originals)
        named = (
            odd_name(number, suffix, rng) if rng.random() < 0.3 else f"{rng.choice(['cat', 'dog'])}_{number}{suffix}"
        )
        (home / "raw" / "train" / named).write_bytes(damaged(content, originals, rng))
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.manifest", "--competition", "mutated"], cwd=CHECKOUT, timeout=300,
        env={**os.environ, "FOLDWISE_ROOT": str(root)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr[-2000:]

    paths = Paths("mutated")
    manifest, problems = read_manifest(paths.manifest), pd.read_csv(paths.problems, keep_default_na=False)
    files = {f"raw/train/{path.name}" for path in (home / "raw" / "train").iterdir()}
    dropped = set(problems.loc[~problems["path"].isin(manifest["path"]), "path"])
    assert set(manifest["path"]) | dropped == files and 200 < len(manifest) < 700
    rows = readable_rows(manifest)
    cached = open_pixels(paths, rows, 48, "train")
    for row, (path, height, width) in enumerate(zip(rows["path"], rows["height"], rows["width"], strict=True)):
        content = (home / path).read_bytes()
        np.testing.assert_array_equal(cached[row], decode_to_side(content, 48, height, width))
        with Image.open(io.BytesIO(content)) as image:  # another decoder sees the same picture: no black square
            seen = np.asarray(ImageOps.exif_transpose(image).convert("RGB")).astype(int)
        assert np.abs(seen - decode(content)).mean() < 3, path


def test_images_damaged_after_the_manifest_are_refused_or_not_needed(
    root: Path, originals: list[tuple[str, bytes]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng, home = random.Random(1), empty_competition(root)
    for number in range(200):
        suffix, content = rng.choice(originals)
        (home / "raw" / "train" / f"{rng.choice(['cat', 'dog'])}_{number}{suffix}").write_bytes(content)
    paths = Paths("mutated")
    rows = readable_rows(make_manifest(paths, load_competition(paths), {})[0])
    cached = open_pixels(paths, rows, 48, "train")
    before = [np.array(cached[row]) for row in range(len(rows))]
    monkeypatch.setattr("pipeline.pixels.cache.DISK_SHARE", 0)
    monkeypatch.setattr(Paths, "cache", home / "elsewhere")
    direct = open_pixels(paths, rows, 48, "train")
    refused = 0
    for _ in range(5):  # a thousand in all
        for row, path in enumerate(rows["path"]):
            content = (home / path).read_bytes()
            changed = damaged(content, originals, rng)
            (home / path).write_bytes(changed)
            np.testing.assert_array_equal(cached[row], before[row])  # the cache holds the checked pixels
            if changed == content:
                np.testing.assert_array_equal(direct[row], before[row])
            else:
                refused += 1
                with pytest.raises(FoldwiseError, match="has changed since the manifest was made"):
                    direct[row]
            (home / path).write_bytes(content)
    assert refused > 700


# --- settings and tables ----------------------------------------------------------------------------------------

CELLS = ["", "NaN", "-1", "1e999", "9" * 30, "0.5", "inf", "größe", '"', "'", "a,b", "\0", "x" * 5000, "null", "[", "="]


def mutated(content: bytes, rng: random.Random) -> bytes:
    """Settings or a table with bytes flipped, lines lost, doubled or swapped, cells replaced, or another encoding."""
    lines = content.splitlines(keepends=True)
    at = rng.randrange(len(lines))
    kind = rng.choice(["flip", "cut", "lose", "double", "swap", "cell", "cell", "cell", "quote", "encoding", "ends"])
    if kind == "flip":
        changed = bytearray(content)
        for _ in range(rng.choice([1, 3, 20])):
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
        return bytes(changed)
    if kind == "cut":
        return content[: rng.randrange(len(content))]
    if kind == "lose":
        del lines[at]
    elif kind == "double":
        lines.insert(at, lines[at])
    elif kind == "swap":
        other = rng.randrange(len(lines))
        lines[at], lines[other] = lines[other], lines[at]
    elif kind == "cell":
        separator = b"," if b"," in lines[at] else b"="
        cells = lines[at].rstrip(b"\n").split(separator)
        cells[rng.randrange(len(cells))] = rng.choice(CELLS).encode()
        lines[at] = separator.join(cells) + b"\n"
    elif kind == "quote":
        lines[at] = b'"' + lines[at]
    elif kind == "encoding":
        return content.decode().encode(rng.choice(["utf-16", "utf-8-sig", "utf-32"]))
    elif kind == "ends":
        return content.replace(b"\n", rng.choice([b"\r\n", b"\r", b"\n\n"]))
    return b"".join(lines)


def outcomes(path: Path, read: Callable[[], object], number: int = 300) -> dict[str, int]:
    """How often ``read`` succeeded and refused with a sentence, over damaged forms of the file; the file is put back.
    Anything else is raised."""
    content, rng, found = path.read_bytes(), random.Random(2), {"read": 0, "refused": 0}
    try:
        for _ in range(number):
            path.write_bytes(mutated(content, rng))
            try:
                read()
                found["read"] += 1
            except FoldwiseError as fault:
                assert str(fault) and "\n" not in str(fault)
                found["refused"] += 1
    finally:
        path.write_bytes(content)
    return found


def test_damaged_facts(split: Paths) -> None:
    def read() -> None:
        make_plan(Options("shapes", device="cpu"))
        competition = load_competition(split)
        manifest, _, _ = make_manifest(split, competition, {})
        pipeline.folds.make_folds(manifest, competition, split)

    assert min(outcomes(split.toml, read).values()) > 30


def test_a_damaged_recipe(split: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(CHECKOUT / "pipeline" / "recipes", tmp_path / "recipes")
    monkeypatch.setattr("pipeline.records.paths.RECIPES", tmp_path / "recipes")
    recipe_file = tmp_path / "recipes" / "characters.toml"

    def read() -> None:
        make_plan(Options("shapes", "characters", device="cpu"))
        recipe = load_recipe("characters", [])
        train_transforms(recipe, ["hflip"])
        eval_transforms(recipe)
        if not recipe.pretrained:
            build_model(recipe, 2)

    assert min(outcomes(recipe_file, read).values()) > 30


def test_a_damaged_manifest(split: Paths) -> None:
    competition = load_competition(split)

    def read() -> None:
        manifest = read_manifest(split.manifest)
        rows = readable_rows(manifest)
        pixels = open_pixels(split, rows, 24, "train")
        assert all(pixels[row].any() for row in range(len(rows)))
        read_folds(split.folds, 3, manifest)
        pipeline.folds.make_folds(manifest, competition, split)
        test_ids = manifest.loc[manifest["split"] == "test", "image_id"]
        rehearse_submission(test_ids, SHAPES, competition, split)

    assert outcomes(split.manifest, read)["refused"] > 200


def test_damaged_folds(split: Paths) -> None:
    manifest = read_manifest(split.manifest)

    def read() -> None:
        folds = read_folds(split.folds, 3, manifest)
        assert SHAPES.targets(folds["label"]).shape == (60, 2)
        assert set(folds["image_id"]) == set(manifest.loc[manifest["split"] == "train", "image_id"])

    assert outcomes(split.folds, read)["refused"] > 200


def test_a_damaged_sample_submission(split: Paths) -> None:
    competition = load_competition(split)
    ids = pd.Series([str(number) for number in range(1, 12)])
    found = outcomes(
        split.raw / "sample_submission.csv",
        lambda: rehearse_submission(ids, SHAPES, competition, split),
    )
    assert min(found.values()) > 30


def test_a_damaged_prediction(split: Paths, stage: Stage) -> None:
    """Of 300 forms only those that are the file itself are read."""
    stage("train", "--fold", "0")
    stage("predict", "--folds", "0")
    path, job = split.fold("tiny", 0) / "oof.npz", make_job("shapes")
    folds = read_folds(split.folds, 3, read_manifest(split.manifest))
    ids, content, same = folds.loc[folds["fold"] == 0, "image_id"], path.read_bytes(), []

    def read() -> None:
        load_fold(job, 0, "oof", ids, SHAPES.target_names)
        same.append(path.read_bytes() == content)

    rng = random.Random(3)
    for _ in range(300):
        path.write_bytes(damaged(content, [("", content)], rng))
        try:
            read()
        except FoldwiseError as fault:
            assert "has changed since it was written" in str(fault) or "damaged" in str(fault)
    assert all(same) and 10 < len(same) < 150
