"""Defines the errors that a user can fix, and helpers for their messages."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


class FoldwiseError(Exception):
    """An expected error. Its message says what is wrong, where, and what to do; it is printed without a traceback."""


class InputError(FoldwiseError):
    """Something that the user gave is wrong: a name, a setting, a file, a table."""


class StaleError(FoldwiseError):
    """A file of Foldwise is missing or damaged, or was made from something else than what is there now."""


class MachineError(FoldwiseError):
    """The machine lacks something: disk space, memory, a device, a package, the network, or another process."""


#: What torch, cuDNN, cuBLAS and the CUDA driver say when memory is short; cuBLAS also when it has none for itself.
_OUT_OF_MEMORY = re.compile(
    "out of memory|can't allocate memory|not enough memory|ALLOC(ATION)?_FAILED|CUBLAS_STATUS_NOT_INITIALIZED"
    "|unable to find an engine",
    re.IGNORECASE,
)


def is_out_of_memory(error: BaseException) -> bool:
    """True for an error that says that the memory of the machine or of a GPU is full, in whatever words."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    return bool(kinds & {"MemoryError", "OutOfMemoryError"}) or (
        "RuntimeError" in kinds and _OUT_OF_MEMORY.search(str(error)) is not None
    )


def suggestion(name: str, known: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` with the known name closest to ``name``; if none is close, a list of the known ones."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return f"; did you mean '{close[0]}'?"
    shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    return f"; known: {shown}" if names else ""


def count_of(number: int, noun: str) -> str:
    """``count_of(1, "image")`` is ``"1 image"``, ``count_of(2, "image")`` is ``"2 images"``."""
    plural = noun[:-1] + "ies" if noun.endswith("y") else noun + ("es" if noun.endswith(("s", "x")) else "s")
    return f"{number:,} {noun if number == 1 else plural}"
