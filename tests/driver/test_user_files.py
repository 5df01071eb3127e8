"""What the user put anywhere stays, and what ends badly can be typed again."""

from __future__ import annotations

import io
import os
import shutil
import signal
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import pipeline.prepare
from pipeline.records.paths import Paths
from pipeline.records.tables import read_manifest
from pipeline.records.up_to_date import prepare_target
from pipeline.system.files import write_json
from pipeline.system.index import Index
from pipeline.system.signals import Stopped
from pipeline.system.toml import read_toml
from tests.conftest import Stage, draw_shape, write_image
from tests.driver.checkouts import make, start_make

PLAIN_TOML = """
title = "Pictures"
recipe = "tiny"
[train]
images = "images"
labels = "train.csv"
[folds]
n = 2
"""


def picture(number: int) -> np.ndarray:
    """One of many pictures."""
    return draw_shape("square", np.random.default_rng(number))


def archive(path: Path, names: list[str], first: int = 0) -> None:
    """A zip of pictures."""
    with zipfile.ZipFile(path, "w") as file:
        for number, name in enumerate(names, start=first):
            buffer = io.BytesIO()
            Image.fromarray(picture(number)).save(buffer, "PNG")
            file.writestr(name, buffer.getvalue())


@pytest.fixture
def plain(root: Path) -> Paths:
    """An unpacked folder of the user's that is called images, and a label CSV, in raw/ as they are."""
    home = root / "data" / "shapes"
    for number in range(20):
        write_image(home / "raw" / "images" / f"Train_{number}.png", picture(number))
    rows = "".join(f"Train_{number},{'ab'[number % 2]}\n" for number in range(20))
    (home / "raw" / "train.csv").write_text("image_id,label\n" + rows)
    (home / "competition.toml").write_text(PLAIN_TOML)
    return Paths("shapes")


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
    assert not prepare_target(plain, read_toml(plain.toml)).why(Index(plain.home))
    archive(plain.raw / "two.zip", ["two/2.png", "two/3.png"])
    stage("prepare")
    (plain.raw / "two.zip").unlink()
    archive(plain.raw / "two.zip", ["two/3.png"], first=7)
    stage("prepare")
    assert sorted(path.name for path in plain.images.rglob("*.png")) == ["1.png", "2.png", "3.png"]
    assert not prepare_target(plain, read_toml(plain.toml)).why(Index(plain.home))


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
    (home / "competition.toml").write_text(PLAIN_TOML.replace('"train.csv"', '"folders"').replace('"images"', '"train"'))
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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_in_the_instant_when_prepare_ends(checkout: Path, number: int) -> None:
    home = checkout / "data" / "shapes"
    (home / "raw").mkdir(parents=True)
    archive(home / "raw" / "all.zip", [f"train/{'ab'[n % 2]}/{n}.png" for n in range(20)])
    (home / "competition.toml").write_text(PLAIN_TOML.replace('"train.csv"', '"folders"').replace('"images"', '"train"'))
    process = start_make(checkout, "prepare", "COMPETITION=shapes")
    while not (home / "prepared.json").exists() and process.poll() is None:
        time.sleep(0.0005)
    os.killpg(process.pid, number)
    process.communicate()
    again = make(checkout, "prepare", "COMPETITION=shapes")
    assert again.returncode == 0 and len(list(home.rglob("images/**/*.png"))) == 20


def test_an_output_that_cannot_print_a_letter(drawn: Path) -> None:
    strange = drawn.rename(drawn.with_name("größe 日本"))
    ended = make(strange.parents[1], "folds", f"COMPETITION={strange.name}", PYTHONIOENCODING="ascii")
    assert ended.returncode == 0, ended.stderr
    assert "data/gr\\xf6\\xdfe \\u65e5\\u672c/folds.csv" in ended.stdout
    assert "nothing to do" in make(strange.parents[1], "folds", f"COMPETITION={strange.name}").stdout


def test_a_users_file_that_has_a_name_of_ours(plain: Paths, stage: Stage, failure: Callable[..., str]) -> None:
    """It is refused before it is replaced."""
    labels = (plain.raw / "train.csv").read_text()
    for name, first in (("manifest.csv", "manifest"), ("problems.csv", "manifest"), ("folds.csv", "folds")):
        if first == "folds":
            for before in ("prepare", "manifest"):
                stage(before)
        mine = plain.home / name
        mine.write_text(labels)
        assert f"{name} would be replaced, but Foldwise has not made it" in failure(first)
        assert mine.read_text() == labels
        mine.unlink()
    (plain.home / "folds.csv").write_text("image_id,label,group,fold\n")
    plain.toml.write_text(PLAIN_TOML.replace("n = 2", 'n = 2\nfile = "folds.csv"'))
    assert "names 'folds.csv', which is what Foldwise calls a file of its own" in failure("folds")
    plain.toml.write_text(PLAIN_TOML.replace('"train.csv"', '"manifest.csv"'))
    assert "names 'manifest.csv', which is what Foldwise calls" in failure("manifest")


def test_clean_removes_what_is_ours(drawn: Path) -> None:
    checkout = drawn.parents[1]
    drawn.rename(drawn.with_name("bench"))
    home = drawn.with_name("bench")
    mine = [home / "dry" / "mine.png", home / "cache" / "mine.txt", checkout / "data" / "other" / "cache" / "x.u8"]
    ours = [
        home / "cache" / "side24-0123456789ab.u8",
        home / "dry" / "runs" / "tiny" / "log.csv",
        home / "dry" / "folds.csv",
    ]
    for path in [*mine, *ours]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    make(checkout, "-n", "clean")
    assert all(path.exists() for path in ours)
    assert make(checkout, "clean").returncode == 0
    assert all(path.exists() for path in mine) and not any(path.exists() for path in ours)
    assert len(list(home.glob("raw/**/*.png"))) == 71


def test_what_lies_behind_a_link_in_images_is_the_users(plain: Paths, stage: Stage) -> None:
    archive(plain.raw / "all.zip", ["one/1.png", "two/2.png"])
    own = plain.home / "own"
    own.mkdir()
    plain.images.mkdir()
    (plain.images / "two").symlink_to(own)
    write_json(plain.prepared, {})
    stage("prepare")
    assert (plain.images / "one" / "1.png").exists() and not list(own.iterdir())


def test_names_that_are_no_text(drawn: Path) -> None:
    checkout = drawn.parents[1]
    with open(os.fsencode(drawn / "raw") + b"/\xff.zip", "wb"):  # noqa: PTH123 (a Path takes no bytes)
        pass
    ended = make(checkout, "folds", "COMPETITION=shapes")
    assert ended.returncode == 2 and "a name that is no UTF-8 text, '\\udcff.zip'; rename it" in ended.stderr


def test_a_pipe_and_a_device_are_no_pictures(drawn: Path) -> None:
    toml = drawn / "competition.toml"
    toml.write_text(toml.read_text().replace("[test]", "max_bad = 0.1\n[test]"))
    os.mkfifo(drawn / "raw" / "train" / "circle_99.png")
    (drawn / "raw" / "train" / "circle_98.png").symlink_to("/dev/zero")
    (drawn / "raw" / "train" / "circle_97.png").symlink_to("nowhere.png")
    os.mkfifo(drawn / "raw" / "more.zip")
    ended = make(drawn.parents[1], "folds", "COMPETITION=shapes")
    assert ended.returncode == 0, ended.stderr
    assert (drawn / "problems.csv").read_text().count("a pipe or device, not a file") == 2
    assert "circle_97.png,unreadable,a link to a file that does not exist" in (drawn / "problems.csv").read_text()
    assert "nothing to do" in make(drawn.parents[1], "folds", "COMPETITION=shapes").stdout


def test_foldwise_root_is_where_everything_is_made(checkout: Path, tmp_path: Path, drawn: Path) -> None:
    """A competition that ships with the checkout, one that lies in both, and one that lies only there."""
    elsewhere = tmp_path / "else where"
    (elsewhere / "data").mkdir(parents=True)
    before = sorted(path for path in checkout.rglob("*") if ".venv" not in path.parts and "pipeline" not in path.parts)
    shutil.copytree(drawn, elsewhere / "data" / "mine")
    for name in ("digits", "shapes", "mine"):
        ended = make(checkout, "folds", f"COMPETITION={name}", FOLDWISE_ROOT=str(elsewhere))
        assert ended.returncode == 0, ended.stderr
        assert (elsewhere / "data" / name / "folds.csv").exists()
        assert "nothing to do" in make(checkout, "folds", f"COMPETITION={name}", FOLDWISE_ROOT=str(elsewhere)).stdout
    for verb in ("help", "why", "doctor"):
        assert make(checkout, verb, FOLDWISE_ROOT=str(elsewhere)).returncode == 0
    after = sorted(path for path in checkout.rglob("*") if ".venv" not in path.parts and "pipeline" not in path.parts)
    assert after == before


def test_facts_change_under_trained_folds(drawn: Path) -> None:
    """It stops before anything becomes invalid, and names the flag."""
    checkout = drawn.parents[1]
    words = ["COMPETITION=shapes", "SET=epochs=1", "FOLDS=0"]
    assert make(checkout, "train", *words).returncode == 0
    weights = next(drawn.rglob("weights.safetensors"))
    trained, folds = weights.stat().st_mtime_ns, (drawn / "folds.csv").read_bytes()
    write_image(drawn / "raw" / "train" / "circle_98.png", picture(5))
    ended = make(checkout, "submit", *words)
    assert ended.returncode == 2 and "FORCE=1" in ended.stderr and "tiny~epochs=1/fold0" in ended.stderr
    assert "[manifest] runs again: data/shapes/raw/train/circle_98.png is new" in ended.stdout
    assert (drawn / "folds.csv").read_bytes() == folds and weights.stat().st_mtime_ns == trained
    (drawn / "raw" / "train" / "circle_98.png").unlink()
    assert make(checkout, "submit", *words).returncode == 0 and weights.stat().st_mtime_ns == trained
