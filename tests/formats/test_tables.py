"""Images in tables of pixels."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest

from pipeline.formats.listing import is_pixel_table
from pipeline.records.paths import Paths
from pipeline.system.places import CHECKOUT
from tests.conftest import Failure, Stage
from tests.formats.arrays import images_of

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (30, 12, 12), dtype=np.uint8)
TOML = """
title = "Digits in a table"
recipe = "tiny"
[train]
images = "train.csv"
labels = "train.csv"
label_column = "label"
[test]
images = "test.csv"
ids = "sample_submission.csv"
[folds]
n = 2
[submission]
sample = "sample_submission.csv"
"""


def columns(pixels: np.ndarray, name: str = "pixel{}") -> pd.DataFrame:
    flat = pixels.reshape(len(pixels), -1)
    return pd.DataFrame(flat, columns=[name.format(n) for n in range(flat.shape[1])])


def cells(pixels: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({"pixels": [" ".join(map(str, row)) for row in pixels.reshape(len(pixels), -1)]})


@pytest.fixture
def place(root: Path) -> Paths:
    home = root / "data" / "shapes"
    (home / "raw").mkdir(parents=True)
    (home / "competition.toml").write_text(TOML)
    (home / "raw" / "sample_submission.csv").write_text("ImageId,Label\n" + "".join(f"{n},0\n" for n in range(1, 11)))
    return Paths("shapes")


def write(place: Paths, form: Callable[[np.ndarray], pd.DataFrame], suffix: str = ".csv") -> None:
    """The tables as digit-recognizer has them."""
    labels = pd.DataFrame({"label": np.arange(20) % 3})
    for name, table in (("train", pd.concat([labels, form(PIXELS[:20])], axis=1)), ("test", form(PIXELS[20:]))):
        if suffix == ".csv":
            table.to_csv(place.raw / f"{name}.csv", index=False)
        else:
            pyarrow.parquet.write_table(pyarrow.Table.from_pandas(table), place.raw / f"{name}.parquet")
    place.toml.write_text(
        TOML.replace('images = "train.csv"', f'images = "train{suffix}"').replace("test.csv", f"test{suffix}")
    )


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("form", [columns, lambda pixels: columns(pixels, "{}"), cells])
def test_a_table_gives_images_labels_and_ids(
    place: Paths, stage: Stage, capsys: pytest.CaptureFixture[str], form: Callable, suffix: str
) -> None:
    write(place, form, suffix)
    stage("prepare")
    stage("manifest")
    found, rows = images_of(place, "train")
    order = rows["image_id"].astype(int)
    np.testing.assert_array_equal(found[..., 0], PIXELS[order])
    assert list(rows["label"]) == [str(number % 3) for number in order]
    found, rows = images_of(place, "test")
    assert list(rows["image_id"]) == [str(number) for number in range(1, 11)]
    np.testing.assert_array_equal(found[..., 0], PIXELS[20:])  # id 1 is the first row
    assert "id 1 is the file '0.png'" in capsys.readouterr().out


def test_a_table_with_ids_in_an_archive_and_other_columns(place: Paths, stage: Stage) -> None:
    import zipfile

    table = pd.concat([pd.DataFrame({"image_id": [f"a{n}" for n in range(20)], "kind": np.arange(20) % 2}),
                       columns(PIXELS[:20], "px_{}"), pd.DataFrame({"who": ["x, y"] * 20})], axis=1)  # fmt: skip
    with zipfile.ZipFile(place.raw / "x.zip", "w") as archive:
        archive.writestr("train.csv", table.to_csv(index=False))
    place.toml.write_text('title = "t"\n[train]\nlabels = "train.csv"\nlabel_column = "kind"\n[folds]\nn = 2\n')
    stage("prepare")
    stage("manifest")
    found, rows = images_of(place, "train")
    assert [f"a{n}" for n in sorted(range(20), key=str)] == list(rows["image_id"])
    np.testing.assert_array_equal(found[..., 0], PIXELS[[int(name[1:]) for name in rows["image_id"]]])
    left = pd.read_csv(place.find("train.csv"), dtype=str)
    assert list(left.columns) == ["image_id", "kind", "who"] and left["who"][3] == "x, y"


def test_shapes_that_are_not_square_and_colours(place: Paths, stage: Stage, failure: Failure) -> None:
    wide = RNG.integers(0, 256, (6, 8, 20), dtype=np.uint8)
    write(place, columns)
    (place.raw / "test.csv").unlink()
    columns(wide).to_csv(place.raw / "train.csv", index=False)
    assert "has 160 pixels for each image, which is not a square; set pixel_shape" in failure("prepare")
    text = place.toml.read_text()
    place.toml.write_text("pixel_shape = [8, 20]\n" + text)
    stage("prepare")
    colours = RNG.integers(0, 256, (6, 8, 20, 3), dtype=np.uint8)
    columns(colours).to_csv(place.raw / "train.csv", index=False)
    place.toml.write_text("pixel_shape = [8, 20, 3]\n" + text)
    stage("prepare")
    from pipeline.pixels.decode import decode

    for row in range(6):
        np.testing.assert_array_equal(decode((place.images / "train" / f"{row}.png").read_bytes()), colours[row])


def test_several_targets_that_are_classes_end_in_one_sentence(place: Paths, stage: Stage, failure: Failure) -> None:
    """As bengali.ai has them: parquet tables of 137 x 236 pixels, here 8 x 12, and three labels for each image."""
    images = RNG.integers(0, 256, (24, 8, 12), dtype=np.uint8)
    names = pd.DataFrame({"image_id": [f"Train_{n}" for n in range(20)] + [f"Test_{n}" for n in range(4)]})
    table = pd.concat([names, columns(images, "{}")], axis=1)
    for number, rows in enumerate((table[:10], table[10:20], table[20:])):
        name = "test_image_data_0" if number == 2 else f"train_image_data_{number}"
        pyarrow.parquet.write_table(
            pyarrow.Table.from_pandas(rows, preserve_index=False), place.raw / f"{name}.parquet"
        )
    parts = ["consonant_diacritic", "grapheme_root", "vowel_diacritic"]
    labels = pd.DataFrame({part: np.arange(20) % (number + 2) for number, part in enumerate(parts)})
    pd.concat([names[:20], labels], axis=1).to_csv(place.raw / "train.csv", index=False)
    ids = [f"Test_{n}_{part}" for n in range(4) for part in parts]
    pd.DataFrame({"row_id": ids, "target": 0}).to_csv(place.raw / "sample_submission.csv", index=False)
    place.toml.write_text(
        'title = "t"\npixel_shape = [8, 12]\n[train]\nlabels = "train.csv"\nlabel_column = "grapheme_root"\n'
        'images = ["train_image_data_0.parquet", "train_image_data_1.parquet"]\n[test]\n'
        'images = "test_image_data_0.parquet"\nids = "sample_submission.csv"\n[folds]\nn = 2\n'
        '[submission]\nsample = "sample_submission.csv"\n'
    )
    stage("prepare")
    assert "12 of 12 test rows have no image" in failure("manifest")
    text = place.toml.read_text()
    place.toml.write_text(text[: text.index("[test]")] + "[folds]\nn = 2\n")
    stage("manifest")  # one of the targets can be trained
    found, rows = images_of(place, "train")
    order = [int(name.rpartition("_")[2]) for name in rows["image_id"]]
    np.testing.assert_array_equal(found[..., 0], images[order])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda table: table.assign(pixel5=[256, *[0] * 19]), "row 2: a pixel is '256', not a whole number"),
        (lambda table: table.assign(pixel5=[*[0] * 19, 0.5]), "row 21: a pixel is '0.5', not a whole number"),
        (lambda table: table.assign(pixel5=[*[0] * 19, None]), "row 21: a pixel is"),
        (lambda table: table.assign(id=[1] * 20), "has the id '1' twice"),
        (lambda table: table.assign(id=["../x"] * 20), "cannot be part of a file's name"),
    ],
)
def test_values_that_are_no_pixels(place: Paths, failure: Failure, change: Callable, said: str) -> None:
    table = columns(PIXELS[:20])
    table.insert(0, "label", np.arange(20) % 3)
    change(table).to_csv(place.raw / "train.csv", index=False)
    assert said in failure("prepare")
    assert not place.images.exists()


def test_features_are_no_pixels(tmp_path: Path) -> None:
    """leaf-classification has 192 columns of features, landmarks have decimals."""
    for name in ("margin{}", "{}"):
        table = pd.DataFrame(RNG.random((3, 192)), columns=[name.format(n) for n in range(192)])
        table.to_csv(tmp_path / "train.csv", index=False)
        assert not is_pixel_table(tmp_path / "train.csv")
    classes = pd.DataFrame(np.eye(100, dtype=int)[:3], columns=[str(n) for n in range(100)])
    classes.to_csv(tmp_path / "train.csv", index=False)  # a column for each class
    assert not is_pixel_table(tmp_path / "train.csv")
    (tmp_path / "train.csv").write_text("id,text\n1," + "1 2 " * 10 + "\n")
    assert not is_pixel_table(tmp_path / "train.csv")
    (tmp_path / "train.csv").write_text("")
    assert not is_pixel_table(tmp_path / "train.csv")


def test_a_parquet_of_many_rows_in_little_memory(place: Paths) -> None:
    """200,000 rows of 8 x 8 pixels are read in blocks: far less memory than the table would take."""
    code = (
        "import sys; from pathlib import Path; from pipeline.formats import tables\n"
        "tables.require_file_name = lambda *_: None\n"
        "class Nothing(type(Path())):\n    def write_bytes(self, data): return len(data)\n"
        "print(tables.write_table(Path(sys.argv[1]), Nothing(sys.argv[2]), lambda items, _: items, None))\n"
        "print(int(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0]) // 1024)\n"
    )
    rows = 200_000
    flat = np.random.default_rng(0).integers(0, 256, (rows, 64), dtype=np.uint8)
    table = pyarrow.Table.from_pandas(pd.DataFrame(flat, columns=[str(n) for n in range(64)]))
    pyarrow.parquet.write_table(table, place.raw / "x.parquet", row_group_size=rows)
    done = subprocess.run(
        [sys.executable, "-c", code, place.raw / "x.parquet", place.home], cwd=CHECKOUT, capture_output=True, text=True
    )
    written, megabytes = map(int, done.stdout.split()) if done.returncode == 0 else (0, 0)
    assert written == rows and 0 < megabytes < 600, done.stdout + done.stderr[-900:]


def test_a_bomb_and_a_damaged_table(place: Paths, failure: Failure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.formats.parts.MAX_GROWTH", 100)  # so that a small bomb is enough
    zeros = pyarrow.array(np.zeros(2_000_000, np.uint8))
    pyarrow.parquet.write_table(
        pyarrow.table({str(n): zeros for n in range(64)}), place.raw / "x.parquet", row_group_size=2_000_000,
        max_rows_per_page=2_000_000,
    )  # fmt: skip
    assert (place.raw / "x.parquet").stat().st_size < 1_000_000
    said = failure("prepare")
    assert "times its size" in said or "free some space" in said
    (place.raw / "x.parquet").write_bytes(b"PAR1" + bytes(500) + b"PAR1")
    assert "x.parquet is damaged or has the wrong format" in failure("prepare")
    assert not place.images.exists()


def test_without_pyarrow_the_message_names_the_command(
    place: Paths, failure: Failure, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place.raw / "x.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    assert "x.parquet is a parquet table, which needs the package pyarrow; type: " in failure("prepare")
