"""Damaged bytes and damaged tables."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from pipeline.system.errors import FoldwiseError

CELLS = ["", "NaN", "-1", "1e999", "9" * 30, "0.5", "inf", "größe", '"', "'", "a,b", "\0", "x" * 5000, "null", "[", "="]


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
