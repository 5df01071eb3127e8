"""Turns the content of TOML files into frozen, typed settings; an unknown key is an error."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.system.errors import InputError, suggestion


class Settings(BaseModel):
    """Base of all settings: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


S = TypeVar("S", bound=Settings)


def validated(kind: type[S], content: dict[str, Any], source: str) -> S:
    """``content`` as settings of this kind; raises FoldwiseError for the first error, with the nearest known key.

    source: where the content is from, for the message
    """
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            table: Any = kind
            for part in first["loc"][:-1]:
                table = table.model_fields[part].annotation
                # Optional tables (`Submission | None`) are unions: take the member that is a table.
                table = next((t for t in getattr(table, "__args__", ()) if hasattr(t, "model_fields")), table)
            reason = f"unknown key '{where}'{suggestion(str(first['loc'][-1]), table.model_fields)}"
        elif first["type"] == "missing":
            reason = f"the key '{where}' is missing"
        elif where:
            reason = (
                f"{where} = {json.dumps(first['input'], default=str)}: {first['msg'].removeprefix('Value error, ')}"
            )
        else:
            reason = first["msg"].removeprefix("Value error, ")
        raise InputError(f"{source}: {reason}") from error
