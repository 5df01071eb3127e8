"""Archives as Kaggle hands them out, and as an attacker would."""

from __future__ import annotations

import io
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

import pipeline.folds
import pipeline.prepare
import pipeline.train
from pipeline.prepare import write_digits
from pipeline.records.paths import Paths
from pipeline.records.tables import read_manifest
from pipeline.records.up_to_date import prepare_files
from pipeline.system.files import write_json
from pipeline.system.index import Index
from pipeline.system.signals import Stopped
from pipeline.system.toml import read_toml
from tests.archives import zip_of
from tests.conftest import PLAIN_TOML, Edit, Failure, Stage, archive, picture, write_image


def test_a_folder_of_the_users_called_images_is_found_before_our_own(plain: Paths, stage: Stage) -> None:
    for name in ("prepare", "manifest"):
        stage(name)
    assert set(read_manifest(plain.manifest)["path"].str.rpartition("/")[0]) == {"raw/images"}


def test_an_archive_whose_folder_is_called_images(root: Path, stage: Stage) -> None:
    home = root / "data" / "shapes"
    (home / "raw").mkdir(parents=True)
    archive(home / "raw" / "pets.zip", [f"images/{'ab'[n % 2]}_{n}.png" for n in range(20)] + ["test/1.png"])
    labels = "pattern = '^(?P<label>.+)_(?P<id>\\d+)\\.png$'"
    (home / "competition.toml").write_text(PLAIN_TOML.replace('labels = "train.csv"', labels))
    for name in ("prepare", "manifest"):
        stage(name)
    assert len(read_manifest(Paths("shapes").manifest)) == 20


def test_pictures_moved_into_our_images_are_used_and_never_deleted(plain: Paths, stage: Stage) -> None:
    """Also when raw/ changes, when an archive arrives there, and when that is replaced or taken out again."""
    stage("prepare")
    stage("manifest")
    for path in (plain.raw / "images").iterdir():
        shutil.move(path, plain.images / path.name)
    (plain.raw / "images").rmdir()
    mine = {path: path.read_bytes() for path in plain.images.iterdir()}
    stage("manifest")
    (plain.raw / "train.csv").write_text((plain.raw / "train.csv").read_text().replace("Train_3,b", "Train_3,a"))
    for names, first in ((["extra/1.png", "extra/2.png"], 50), (["extra/2.png", "extra/3.png"], 60), (None, 0)):
        if names is None:
            plain.toml.write_text(f"raw = ['train.csv']\n{PLAIN_TOML}")
        else:
            archive(plain.raw / "more.zip", names, first)
        stage("prepare")
        assert {path: path.read_bytes() for path in mine} == mine
        ours = {path.name for path in plain.images.rglob("*.png")} - {path.name for path in mine}
        assert ours == {Path(name).name for name in names or []}
    stage("manifest")
    assert len(read_manifest(plain.manifest)) == 20


def test_archives_can_be_removed_once_they_are_unpacked(plain: Paths, stage: Stage) -> None:
    """With other things in raw/, and also when another archive arrives: images are never deleted with their source."""
    archive(plain.raw / "one.zip", ["one/1.png"])
    stage("prepare")
    (plain.raw / "one.zip").unlink()
    assert not prepare_files(plain, read_toml(plain.toml)).reason_to_run(Index(plain.home))
    archive(plain.raw / "two.zip", ["two/2.png", "two/3.png"])
    stage("prepare")
    (plain.raw / "two.zip").unlink()
    archive(plain.raw / "two.zip", ["two/3.png"], first=7)
    stage("prepare")
    assert sorted(path.name for path in plain.images.rglob("*.png")) == ["1.png", "2.png", "3.png"]
    assert not prepare_files(plain, read_toml(plain.toml)).reason_to_run(Index(plain.home))


def test_what_was_edited_after_unpacking_stays(root: Path, stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    home = root / "data" / "shapes"
    (home / "raw").mkdir(parents=True)
    archive(home / "raw" / "all.zip", [f"train/{'ab'[n % 2]}_{n}.png" for n in range(20)])
    labels = "pattern = '^(?P<label>.+)_(?P<id>\\d+)\\.png$'"
    toml = PLAIN_TOML.replace('labels = "train.csv"', labels).replace('"images"', '"train"')
    (home / "competition.toml").write_text(toml)
    paths = Paths("shapes")
    stage("prepare")
    edited, lost = paths.images / "train" / "a_0.png", paths.images / "train" / "b_1.png"
    write_image(edited, picture(99))
    before = edited.read_bytes()
    lost.unlink()
    stage("prepare")  # a file that is missing is unpacked again
    assert lost.exists() and edited.read_bytes() == before
    assert "1 file in data/shapes/images, such as data/shapes/images/train/a_0.png" in capsys.readouterr().out
    shutil.rmtree(paths.images)
    stage("prepare")
    assert edited.exists() and edited.read_bytes() != before


@pytest.mark.parametrize("moment", ["rename", "record", "after"])
def test_prepare_can_be_interrupted_at_any_moment(
    root: Path, stage: Stage, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Before and in the midst of the move into images/, before its record, and after it."""
    home = root / "data" / "shapes"
    (home / "raw").mkdir(parents=True)
    names = [f"train/{'ab'[n % 2]}/{n}.png" for n in range(20)]
    archive(home / "raw" / "all.zip", names)
    (home / "competition.toml").write_text(
        PLAIN_TOML.replace('"train.csv"', '"folders"').replace('"images"', '"train"')
    )
    paths = Paths("shapes")
    for turn in range(2):  # the first time, and when the archive was replaced
        with monkeypatch.context() as patched:
            if moment == "rename":
                moved: list[Path] = []
                replace = Path.replace

                def interrupted(path: Path, target: Path) -> Path:
                    moved.append(path)  # noqa: B023
                    if len(moved) == (5 if turn else 1):  # noqa: B023
                        raise Stopped("by the test")
                    return replace(path, target)  # noqa: B023

                patched.setattr(Path, "replace", interrupted)
            elif moment == "record":
                patched.setattr(pipeline.prepare, "write_json", lambda *_: exec("raise Stopped", {"Stopped": Stopped}))
            else:
                patched.setattr(pipeline.prepare, "say", lambda *_: exec("raise Stopped", {"Stopped": Stopped}))
            with pytest.raises(SystemExit) as stopped:
                stage("prepare")
            assert stopped.value.code == 75
        stage("prepare")
        assert sorted(str(path.relative_to(paths.images)) for path in paths.images.rglob("*.png")) == sorted(names)
        assert not list(home.glob(".*.tmp-*"))
        names = [f"train/{'ab'[n % 2]}/{n}.png" for n in range(10, 30)]
        archive(home / "raw" / "all.zip", names, first=100)


def test_what_lies_behind_a_link_in_images_is_the_users(plain: Paths, stage: Stage) -> None:
    archive(plain.raw / "all.zip", ["one/1.png", "two/2.png"])
    own = plain.home / "own"
    own.mkdir()
    plain.images.mkdir()
    (plain.images / "two").symlink_to(own)
    write_json(plain.prepared, {})
    stage("prepare")
    assert (plain.images / "one" / "1.png").exists() and not list(own.iterdir())


def test_raw_data_missing_says_what_to_download(shapes: Paths, failure: Failure, edit: Edit) -> None:
    shutil.rmtree(shapes.raw)
    edit('recipe  = "tiny"', 'recipe = "tiny"\nslug = "shapes-2026"')
    assert "kaggle competitions download shapes-2026 -p data/shapes/raw" in failure("prepare")


def into_archives(shapes: Paths) -> dict[str, dict[str, bytes]]:
    """Takes train/ and test/ out of raw/ and returns their files, for a test to pack."""
    packed = {}
    for split in ("train", "test"):
        folder = shapes.raw / split
        packed[split] = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
    return packed


def test_two_archives_with_and_without_a_folder_inside(shapes: Paths, stage: Stage) -> None:
    files = into_archives(shapes)
    (shapes.raw / "train.zip").write_bytes(zip_of({f"train/{name}": b for name, b in files["train"].items()}))
    (shapes.raw / "test.zip").write_bytes(zip_of(files["test"]))  # flat: gets a folder of its own name
    stage("prepare")
    assert len(list((shapes.images / "train").iterdir())) == 60
    assert len(list((shapes.images / "test").iterdir())) == 11
    stage("manifest")


def test_one_archive_holding_the_others_and_the_sample(shapes: Paths, stage: Stage) -> None:
    files = into_archives(shapes)
    sample = shapes.raw / "sample_submission.csv"
    inner = {"train.zip": zip_of(files["train"]), "test.zip": zip_of(files["test"]), sample.name: sample.read_bytes()}
    sample.unlink()
    (shapes.raw / "shapes.zip").write_bytes(zip_of(inner))
    stage("prepare")
    assert sorted(path.name for path in shapes.images.iterdir()) == ["sample_submission.csv", "test", "train"]
    assert shapes.find("sample_submission.csv") == shapes.images / "sample_submission.csv"


def test_a_tar_archive(shapes: Paths, stage: Stage) -> None:
    files = into_archives(shapes)
    with tarfile.open(shapes.raw / "all.tar.gz", "w:gz") as archive:
        for split, contents in files.items():
            for name, content in contents.items():
                entry = tarfile.TarInfo(f"{split}/{name}")
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    stage("prepare")
    stage("manifest")
    assert shapes.manifest.exists()


def test_twice_does_nothing_and_a_new_archive_is_taken_in(
    shapes: Paths, stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    stage("prepare")
    stage("prepare")
    assert "nothing new" in capsys.readouterr().out
    (shapes.raw / "more.zip").write_bytes(zip_of({"extra/a.png": b"x"}))
    stage("prepare")
    assert (shapes.images / "extra" / "a.png").exists()


def test_a_folder_that_we_did_not_make_is_not_replaced(shapes: Paths, failure: Callable[..., str]) -> None:
    shapes.images.mkdir()
    (shapes.images / "mine.png").write_bytes(b"precious")
    assert "move your files to data/shapes/raw/" in failure("prepare")
    assert (shapes.images / "mine.png").read_bytes() == b"precious"


def test_the_digits_are_scikit_learns(shapes: Paths, tmp_path: Path) -> None:
    import cv2

    folder = tmp_path / "images"
    folder.mkdir()
    assert write_digits(shapes, folder) == 1797
    digits = load_digits()
    train = sorted((folder / "train").iterdir())
    assert len(train) == 1437 and len(list((folder / "test").iterdir())) == 360
    label, row = train[100].stem.split("_")
    assert digits.target[int(row)] == int(label)
    pixels = cv2.imread(str(train[100]), cv2.IMREAD_GRAYSCALE)
    np.testing.assert_array_equal(pixels, np.round(digits.images[int(row)] / 16 * 255))
    labels = (shapes.home / "test_labels.csv").read_text().splitlines()
    assert labels[0] == "id,label" and len(labels) == 361
