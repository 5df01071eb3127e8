"""Reading TOML that a stranger may have written. Standard library only."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.system.errors import FoldwiseError
from pipeline.system.places import shown

#: Bytes beyond which a file is no settings file: tomllib's time grows with its length.
MAX_BYTES = 1_000_000


def parse_toml(text: str) -> dict[str, Any]:
    """The content of TOML text; raises ValueError (of which TOMLDecodeError is one) with what is wrong."""
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("its tables or lists are nested too deeply") from None


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file; raises FoldwiseError with the line that is wrong."""
    try:
        if not path.is_file():  # reading a pipe would never end
            raise ValueError("it is no file")
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"{path.stat().st_size:,} bytes are more than {MAX_BYTES:,}")
        return parse_toml(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:  # also UnicodeDecodeError, and a number of too many digits
        raise FoldwiseError(f"{shown(path)} is not valid TOML: {error}") from error


def split_settings(text: str) -> list[str]:
    """``'epochs=2 model_args.names="a b"'`` as ``key=value`` words. Raises FoldwiseError as ``check_settings`` does."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise FoldwiseError(f"SET={text} has a quotation mark too few; write for example SET='epochs=2'") from error
    check_settings(words)
    return words


def check_settings(settings: Sequence[str]) -> None:
    """Raises FoldwiseError unless all settings are ``key=value``, each key given once."""
    keys = []
    for setting in settings:
        if not re.match(r"[A-Za-z_][\w.-]*=", setting):
            raise FoldwiseError(f"a setting is key=value, such as epochs=2, not '{setting}'")
        keys.append(setting.partition("=")[0])
    if twice := sorted({key for key in keys if keys.count(key) > 1}):
        raise FoldwiseError(f"the setting '{twice[0]}' is given {keys.count(twice[0])} times; give it once")
