"""Packages that only some data need."""

from __future__ import annotations

import tomllib

import pytest

from pipeline.system.errors import MachineError
from pipeline.system.extras import EXTRAS, imported
from pipeline.system.places import CHECKOUT


def test_the_packages_are_those_of_the_project() -> None:
    named = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for extra, packages in EXTRAS.items():
        assert sorted(packages) == sorted(name.partition(">")[0] for name in named[extra])


def test_a_missing_package_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pydicom", None)
    with pytest.raises(MachineError, match=r"x.dcm is a DICOM file, which needs the package pydicom; type: .*formats"):
        imported("pydicom", "x.dcm is a DICOM file")
