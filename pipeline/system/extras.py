"""Imports packages that are only needed for some data, and says how to install them. Standard library only."""

from __future__ import annotations

import importlib
from types import ModuleType

from pipeline.system.errors import MachineError

#: Packages of each extra in pyproject.toml.
EXTRAS = {"formats": ("py7zr", "pyarrow", "pydicom")}


def command_for(extra: str) -> str:
    """The command that installs the packages of an extra."""
    return f".venv/bin/python -m pip install -c constraints.txt -e '.[{extra}]'"


def imported(package: str, reason: str) -> ModuleType:
    """The package; raises FoldwiseError with the command that installs it.

    reason: what needs it, start of the message
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        extra = next(extra for extra, packages in EXTRAS.items() if package.partition(".")[0] in packages)
        raise MachineError(
            f"{reason}, which needs the package {package.partition('.')[0]}; type: {command_for(extra)}"
        ) from error
