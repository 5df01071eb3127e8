"""Archives as Kaggle hands them out, and as an attacker would."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from pipeline.prepare import write_digits
from pipeline.records.paths import Paths
from tests.conftest import Stage


def zip_of(files: dict[str, bytes]) -> bytes:
    """Bytes of a zip archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


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


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("../evil.png", "unsafe name"),
        ("/etc/evil.png", "unsafe name"),
        ("..\\evil.png", "unsafe name"),
        ("C:/evil.png", "unsafe name"),
    ],
)
def test_names_that_leave_the_folder(shapes: Paths, failure: Callable[..., str], name: str, expected: str) -> None:
    (shapes.raw / "bad.zip").write_bytes(zip_of({"train/ok.png": b"x", name: b"x"}))
    assert expected in failure("prepare")
    assert not shapes.images.exists() and not (shapes.home / "evil.png").exists()


def test_names_that_clash_links_and_bombs(shapes: Paths, failure: Callable[..., str]) -> None:
    bad = shapes.raw / "bad.zip"
    bad.write_bytes(zip_of({"train/A.png": b"x", "train/a.png": b"y"}))
    assert "two files of one name" in failure("prepare")
    link = zipfile.ZipInfo("train/link.png")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(bad, "w") as archive:
        archive.writestr(link, "/etc/passwd")
    assert "holds a link" in failure("prepare")
    with zipfile.ZipFile(bad, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("train/bomb.png", "w") as file:
        for _ in range(1100):
            file.write(bytes(1_000_000))
    assert "times its size" in failure("prepare")
    assert not shapes.images.exists()


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b[:40] + bytes(200) + b[240:], lambda _: b""])
def test_a_corrupt_zip(shapes: Paths, failure: Callable[..., str], damage: Callable[[bytes], bytes]) -> None:
    rng = np.random.default_rng(0)
    (shapes.raw / "train.zip").write_bytes(damage(zip_of({f"train/{n}.png": rng.bytes(500) for n in range(5)})))
    assert "train.zip is damaged" in failure("prepare")
    assert not shapes.images.exists() and not list(shapes.home.glob(".images*"))


def test_a_folder_that_we_did_not_make_is_not_replaced(shapes: Paths, failure: Callable[..., str]) -> None:
    shapes.images.mkdir()
    (shapes.images / "mine.png").write_bytes(b"precious")
    assert "move what you put there" in failure("prepare")
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
