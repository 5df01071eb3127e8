"""Streams of archives."""

from __future__ import annotations

import random
from contextlib import ExitStack
from pathlib import Path

import pytest

from pipeline.formats.containers import Joined, Member, Target
from pipeline.system.errors import InputError


def test_parts_read_as_one_file(tmp_path: Path) -> None:
    content, rng = random.Random(0).randbytes(1000), random.Random(1)
    paths = []
    for number, start in enumerate(range(0, 1000, 170)):
        paths.append(tmp_path / str(number))
        paths[-1].write_bytes(content[start : start + 170])
    with ExitStack() as opened:
        joined = Joined(paths, opened)
        for _ in range(200):
            start, size = rng.randrange(1100), rng.randrange(400)
            joined.seek(start)
            found = b""
            while len(found) < size and (more := joined.read(size - len(found))):  # a read ends with a part
                found += more
            assert found == content[start : start + size]
        joined.seek(-5, 2)
        assert joined.read() == content[-5:] and joined.tell() == 1000
        joined.seek(0)
        assert joined.readall() == content


def test_a_member_must_have_its_stated_size(tmp_path: Path) -> None:
    for written in (b"12", b"1234"):
        target = Target(tmp_path / "x", Member("x", 3), tmp_path / "a.zip")
        with pytest.raises(InputError, match="does not have the size that the archive states"):
            target.write(written)
            target.close()
    target = Target(tmp_path / "x", Member("x", 0), tmp_path / "a.zip")
    target.close()
    assert (tmp_path / "x").read_bytes() == b""
