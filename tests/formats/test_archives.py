"""Archives that strangers made."""

from __future__ import annotations

import gzip
import io
import struct
import sys
import tarfile
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import py7zr
import pytest

from pipeline.records.paths import Paths
from tests.archives import zip_of
from tests.conftest import Failure, Stage


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


def test_only_loose_images_at_the_top_move_a_level_down(shapes: Paths, stage: Stage) -> None:
    """A stray file beside the folders, such as .DS_Store or LICENSE, moves nothing."""
    picture = (shapes.raw / "test" / "1.png").read_bytes()
    names = ["train/a/1.png", "LICENSE", ".DS_Store", "data.parquet2", "sample.csv", "logo.png"]
    (shapes.raw / "set.zip").write_bytes(zip_of({name: picture for name in names}))
    (shapes.raw / "extra.zip").write_bytes(zip_of({"7.jpg": picture, "b/8.jpg": picture}))
    stage("prepare")
    made = {path.relative_to(shapes.images).as_posix() for path in shapes.images.rglob("*") if path.is_file()}
    assert made == {*names[:5], "set/logo.png", "extra/7.jpg", "b/8.jpg"}


def seven_zip(path: Path, files: dict[str, bytes]) -> Path:
    """A 7z archive of these files."""
    with py7zr.SevenZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(content, name)
    return path


FILES = {"train/1.png": b"one" * 999, "train/deep/2.png": b"", "a.csv": b"id,label\n1,x\n"}


def made_of(paths: Paths) -> dict[str, bytes]:
    """What prepare has unpacked."""
    files = [path for path in paths.images.rglob("*") if path.is_file()]
    return {path.relative_to(paths.images).as_posix(): path.read_bytes() for path in files}


def tar_of(files: dict[str, bytes]) -> bytes:
    """Bytes of a tar archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def parts_of(content: bytes, name: str, size: int) -> dict[str, bytes]:
    """A split archive: x.zip.001, x.zip.002, ..."""
    starts = range(0, len(content), size)
    return {f"{name}.{number:03}": content[start : start + size] for number, start in enumerate(starts, start=1)}


def spanned(content: bytes, size: int) -> list[bytes]:
    """A zip in parts as ``zip -s`` writes them: offsets count from the start of a part (PKWARE appnote 4.4.16)."""
    content = b"PK\x07\x08" + content
    end = content.rindex(b"PK\x05\x06")
    (directory,) = struct.unpack_from("<I", content, end + 16)
    directory += 4
    last = (directory // size) * size  # the directory lies in the last part as a whole
    starts = [*range(0, last, size), last]
    changed = bytearray(content)
    at = directory
    while content[at : at + 4] == b"PK\x01\x02":
        name, extra, comment = struct.unpack_from("<HHH", content, at + 28)
        offset = struct.unpack_from("<I", content, at + 42)[0] + 4
        part = max(number for number, start in enumerate(starts) if start <= offset)
        struct.pack_into("<H", changed, at + 34, part)
        struct.pack_into("<I", changed, at + 42, offset - starts[part])
        at += 46 + name + extra + comment
    struct.pack_into("<HH", changed, end + 4, len(starts) - 1, len(starts) - 1)
    struct.pack_into("<I", changed, end + 16, directory - last)
    return [bytes(changed[start:stop]) for start, stop in zip(starts, [*starts[1:], len(changed)], strict=True)]


@pytest.mark.parametrize(
    "kind", ["7z", "tar.7z", "7z in zip", "tar.7z in zip", "zip.001", "7z.001", "z01", "zip in zip"]
)
def test_every_kind_of_archive_gives_the_same_files(
    tmp_path: Path, shapes: Paths, stage: Stage, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    raw = shapes.raw
    if kind == "7z":
        seven_zip(raw / "x.7z", FILES)
    elif kind == "tar.7z":
        seven_zip(raw / "x.tar.7z", {"x.tar": tar_of(FILES)})
    elif kind == "z01":
        stored = io.BytesIO()
        with zipfile.ZipFile(stored, "w") as archive:
            for name, content in FILES.items():
                archive.writestr(name, content)
        *first, last = spanned(stored.getvalue(), 700)
        assert len(first) > 3
        for number, part in enumerate(first, start=1):
            (raw / f"x.z{number:02}").write_bytes(part)
        (raw / "x.zip").write_bytes(last)
    elif kind == "zip in zip":
        (raw / "outer.zip").write_bytes(zip_of({"x.zip": zip_of({"y.zip": zip_of(FILES)})}))
    else:
        inner = tmp_path / "x.7z"
        seven_zip(inner, {"x.tar": tar_of(FILES)} if kind.startswith("tar") else FILES)
        if kind.endswith("in zip"):
            parts = {"outer.zip": zip_of({kind.split()[0].join(["x.", ""]): inner.read_bytes()})}
        else:
            content = zip_of(FILES) if kind == "zip.001" else inner.read_bytes()
            parts = parts_of(content, f"x.{kind[:-4]}", 90)
            assert len(parts) > 2
        for name, content in parts.items():
            (raw / name).write_bytes(content)
    stage("prepare")
    assert made_of(shapes) == FILES
    assert "[prepare] 3 files from " in capsys.readouterr().out


def test_a_missing_part_is_named(shapes: Paths, failure: Failure) -> None:
    parts = parts_of(zip_of(FILES), "x.zip", 60)
    for name, content in parts.items():
        if not name.endswith("002"):
            (shapes.raw / name).write_bytes(content)
    assert "part 2 of the split archive" in failure("prepare")


@pytest.mark.parametrize(
    ("name", "said"),
    [("../evil.png", "unsafe name"), ("/evil.png", "unsafe name"), ("A.png", "two files with the same")],
)
def test_names_in_a_7z_are_checked_too(shapes: Paths, failure: Failure, name: str, said: str) -> None:
    path = shapes.raw / "x.7z"
    with py7zr.SevenZipFile(path, "w") as archive:
        archive.set_encoded_header_mode(False)
        archive.writestr(b"x", "a.png")
        archive.writestr(b"y", "B" * len(name))
    content = path.read_bytes()
    old, new = ("B" * len(name)).encode("utf-16-le"), name.encode("utf-16-le")
    assert old in content
    path.write_bytes(with_header_checksum(content.replace(old, new)))
    assert said in failure("prepare")
    assert not shapes.images.exists() and not (shapes.home.parent / "evil.png").exists()


def with_header_checksum(content: bytes) -> bytes:
    """A 7z archive with the checksums of its changed header (7zFormat.txt of the LZMA SDK)."""
    offset, size = struct.unpack_from("<QQ", content, 12)
    header = content[32 + offset : 32 + offset + size]
    start = struct.pack("<QQI", offset, size, zlib.crc32(header))
    return content[:8] + struct.pack("<I", zlib.crc32(start)) + start + content[32:]


def test_links_and_bombs_in_a_7z(
    tmp_path: Path, shapes: Paths, failure: Failure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.formats.archives.MAX_GROWTH", 50)  # so that a small bomb is enough
    (tmp_path / "link.png").symlink_to("/etc/passwd")
    with py7zr.SevenZipFile(shapes.raw / "x.7z", "w") as archive:
        archive.write(tmp_path / "link.png", "link.png")
    assert "holds a link or device, 'link.png'" in failure("prepare")
    seven_zip(shapes.raw / "x.7z", {"bomb.png": bytes(55_000_000)})
    assert (shapes.raw / "x.7z").stat().st_size < 1_000_000
    assert "times its size" in failure("prepare")
    (shapes.raw / "x.7z").write_bytes(bytes.fromhex("377abcaf271c0004") + bytes(200))
    assert "x.7z is damaged or encrypted" in failure("prepare")
    with py7zr.SevenZipFile(shapes.raw / "x.7z", "w", password="secret") as archive:
        archive.writestr(b"x", "a.png")
    assert "x.7z is damaged or encrypted" in failure("prepare")
    assert not shapes.images.exists()


def test_nested_bombs_share_one_budget_and_the_depth_is_limited(
    shapes: Paths, failure: Failure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.formats.archives.MAX_GROWTH", 50)
    # Each of them alone would be allowed.
    nested = {f"{number}.zip": zip_of({f"{number}.bin": bytes(4_500_000)}) for number in range(12)}
    (shapes.raw / "x.zip").write_bytes(zip_of(nested))
    assert "times its size" in failure("prepare")
    deep = zip_of({"a.png": b"x"})
    for level in range(4):
        deep = zip_of({f"level{level}.zip": deep})
    (shapes.raw / "x.zip").write_bytes(deep)
    assert "an archive in an archive in an archive" in failure("prepare")
    assert not shapes.images.exists()


def test_a_tar_with_an_endless_header_is_refused_in_little_memory(shapes: Paths, failure: Failure) -> None:
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, 2_000_000_000
    with gzip.open(shapes.raw / "x.tar.gz", "wb") as file:
        file.write(header.tobuf())
        for _ in range(100):
            file.write(bytes(1_000_000))
    tracemalloc.start()
    assert "x.tar.gz is damaged" in failure("prepare")
    assert tracemalloc.get_traced_memory()[1] < 100_000_000
    tracemalloc.stop()


def test_strange_names_and_files_of_the_system(shapes: Paths, stage: Stage, failure: Failure) -> None:
    with tarfile.open(shapes.raw / "x.tar", "w", encoding="utf-8", errors="surrogateescape") as archive:
        archive.addfile(tarfile.TarInfo("train/\udcff_1.png"))
    assert "too long or not UTF-8 text" in failure("prepare")
    (shapes.raw / "x.tar").unlink()
    (shapes.raw / "x.zip").write_bytes(zip_of({f"train/{'x' * 300}.png": b"x"}))
    assert "too long or not UTF-8 text" in failure("prepare")
    (shapes.raw / "x.zip").write_bytes(zip_of({"../\x1b[2Jevil": b"x"}))
    assert "\x1b" not in failure("prepare")
    other = io.BytesIO()
    np.savez(other, features=np.zeros(3))
    files = {"__MACOSX/._meta.parquet": b"x", "features.npz": other.getvalue(), "a.csv": b"id\n"}
    (shapes.raw / "x.zip").write_bytes(zip_of(files))
    stage("prepare")
    assert "features.npz" in made_of(shapes)


def test_parts_are_sorted_by_their_numbers(shapes: Paths, failure: Failure) -> None:
    for name in ("X.z02", "x.z01", "x.zip"):
        (shapes.raw / name).write_bytes(b"no archive")
    assert "x.zip is damaged" in failure("prepare")


def test_what_cannot_be_opened_is_named_and_what_was_unpacked_by_hand_stays(
    shapes: Paths, stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = bytes.fromhex("377abcaf271c0004") + bytes(200)
    (shapes.raw / "x.zip").write_bytes(zip_of({"train.7z": damaged, "more.rar": b"Rar!", "a.csv": b"id\n"}))
    stage("prepare")
    said = capsys.readouterr().out
    assert "more.rar, which lies in an archive of raw/, has an unsupported format" in said
    assert "train.7z, which lies in an archive of raw/, is not unpacked, since raw/ has the folder train/" in said


def test_without_the_package_the_message_names_the_command(
    shapes: Paths, failure: Failure, monkeypatch: pytest.MonkeyPatch
) -> None:
    seven_zip(shapes.raw / "x.7z", FILES)
    monkeypatch.setitem(sys.modules, "py7zr", None)
    said = failure("prepare")
    assert "x.7z is a 7z archive, which needs the package py7zr" in said
    assert said.endswith(".venv/bin/python -m pip install -c constraints.txt -e '.[formats]'")
