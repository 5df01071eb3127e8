"""Archives that strangers made."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.records.paths import Paths
from tests.archives import zip_of
from tests.conftest import Failure


def archive_of(path: Path, *members: str | zipfile.ZipInfo) -> None:
    """A zip whose members hold nine bytes each."""
    with zipfile.ZipFile(path, "w") as archive:
        for member in members:
            archive.writestr(member, b"some data")


def link_member() -> zipfile.ZipInfo:
    """A symbolic link's entry."""
    info = zipfile.ZipInfo("train/link.png")
    info.external_attr = 0o120777 << 16
    return info


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        (["../evil.png"], "unsafe name"),
        (["train/../../evil.png"], "unsafe name"),
        (["/evil.png"], "unsafe name"),
        (["C:\\evil.png"], "unsafe name"),
        ([link_member()], "holds a link"),
        (["train/A.png", "train/a.png"], "two files with the same name"),
        (["train/\u00e9.png", "train/e\u0301.png"], "two files with the same name"),
        (["train", "train/a.png"], "both as a file and as the folder of"),
    ],
)
def test_unsafe_archives(shapes: Paths, failure: Failure, members: list, expected: str) -> None:
    archive_of(shapes.raw / "bad.zip", "train/good.png", *members)
    before = {path for path in shapes.home.parent.rglob("*")}
    assert expected in failure("prepare")
    made = {path for path in shapes.home.parent.rglob("*")} - before
    assert not [path for path in made if path.suffix == ".png"] and not (shapes.home / "images").exists()


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
    assert "two files with the same name" in failure("prepare")
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
