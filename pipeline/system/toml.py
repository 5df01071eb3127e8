"""Reads untrusted TOML files, and checks ``key=value`` settings. Standard library only."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.system.errors import InputError
from pipeline.system.places import shown

#: Largest size of a settings file in bytes: the time that tomllib takes grows with the length.
MAX_BYTES = 1_000_000


def parse_toml(text: str) -> dict[str, Any]:
    """The content of TOML text; raises ValueError (or TOMLDecodeError, a subclass) with the reason."""
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("its tables or lists are nested too deeply") from None


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file; raises FoldwiseError with the reason and, for a syntax error, the line."""
    try:
        if not path.is_file():  # reading a pipe would never end
            raise ValueError("it is not a file")
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"{path.stat().st_size:,} bytes are more than the limit of {MAX_BYTES:,}")
        return parse_toml(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:  # also UnicodeDecodeError, and an integer with too many digits
        raise InputError(f"{shown(path)} is not valid TOML: {error}") from error


def split_settings(text: str) -> list[str]:
    """Splits ``'epochs=2 model_args.names="a b"'`` into ``key=value`` words, as a shell would.

    Raises FoldwiseError if a quotation mark is missing, or as ``check_settings`` does.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise InputError(
            f"SET={text} lacks a closing quotation mark or ends in a backslash; write for example SET='epochs=2'"
        ) from error
    check_settings(words)
    return words


def check_settings(settings: Sequence[str]) -> None:
    """Raises FoldwiseError unless all settings are ``key=value``, each key given once."""
    keys = []
    for setting in settings:
        if not re.match(r"[A-Za-z_][\w.-]*=", setting):
            raise InputError(f"a setting is key=value, such as epochs=2, not '{setting}'")
        keys.append(setting.partition("=")[0])
    if twice := sorted({key for key in keys if keys.count(key) > 1}):
        raise InputError(f"the setting '{twice[0]}' is given {keys.count(twice[0])} times; give it once")
