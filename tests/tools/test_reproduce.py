"""The cause of a difference is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.driver import reproduction
from pipeline.driver.options import read_options
from pipeline.records.paths import Paths
from pipeline.system import places
from pipeline.system.files import read_json, write_json
from pipeline.tools.reproduce import changes
from tests.conftest import Failure, Stage

ABOUT: dict[str, Any] = {
    "made_of": {"tiny": {"lr": 0.1, "folds_sha256": "f", "train_images_sha256": "d"}},
    "score": {"manifest_sha256": "m", "folds_sha256": "f", "device": "cpu"},
    "packages": {"torch": "2.1"}, "python": "3.11.1", "system": "Linux", "cpus": 2,
    "commit": "abc", "code_sha256": "c", "competition_sha256": "t",
}  # fmt: skip


def changed(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """ABOUT after a change."""
    about = json.loads(json.dumps(ABOUT))
    change(about)
    return about


@pytest.mark.parametrize(
    ("cause", "change", "words"),
    [
        ("data", lambda a: a["made_of"]["tiny"].update(train_images_sha256="x"), "train_images_sha256 was"),
        ("data", lambda a: a["score"].update(manifest_sha256="x", folds_sha256="x"), "manifest.csv differs"),
        ("folds", lambda a: a["score"].update(folds_sha256="x"), "folds.csv differs"),
        ("recipe", lambda a: a["made_of"]["tiny"].update(lr=0.2), "lr was 0.1 and is now 0.2"),
        ("versions", lambda a: a["packages"].update(torch="2.2"), "torch was '2.1' and is now '2.2'"),
        ("versions", lambda a: a.update(cpus=4), "cpus was 2 and is now 4"),
        ("code", lambda a: a.update(code_sha256="x"), "files of pipeline/ differ"),
        ("competition.toml", lambda a: a.update(competition_sha256="x"), "its text differs"),
    ],
)
def test_each_cause_has_its_name(cause: str, change: Callable[[dict[str, Any]], object], words: str) -> None:
    found = changes(ABOUT, changed(change))
    assert [*found] == [cause] and words in found[cause]
    assert changes(ABOUT, ABOUT) == {}


def test_a_submission_is_built_again_with_the_same_bytes(
    split: Paths, stage: Stage, failure: Failure, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fold 0 from the start to the CSV, twice; then with another file in the place of that CSV."""
    name, chosen = "tiny~epochs=1~folds=0", ["--set", "epochs=1"]

    def stages(*names: str) -> None:
        for one in names:
            options = [] if one in ("prepare", "manifest", "folds") else chosen
            options = [*options, *(["--fold", "0"] if one == "train" else ["--folds", "0"] if options else [])]
            stage(one, *options)

    def run_inside(words: list[str], of: str, environment: dict[str, str] | None = None) -> None:
        """Runs in this process what the driver would start, since processes take seconds to start."""
        if words[1] == "pipeline.tools.reproduce":
            return stage("tools.reproduce", "--submission", name)
        assert environment is not None
        assert words[2:] == ["submit", "COMPETITION=shapes", "SET=epochs=1", "FOLDS=0"]
        with monkeypatch.context() as patched:
            patched.setattr(places, "ROOT", Path(environment["FOLDWISE_ROOT"]))
            stages("prepare", "manifest", "folds", "train", "predict", "ensemble", "submit")
        return None

    stages("train", "predict", "ensemble", "submit")
    monkeypatch.setattr(reproduction, "run_one", run_inside)
    reproduction.reproduce(read_options(["COMPETITION=shapes", f"SUBMISSION={name}"], {}))
    assert f"the bytes of {name}.csv are the same" in capsys.readouterr().out
    assert not split.reproduced(name).exists()

    again = split.reproduced(name) / "submissions" / "shapes"
    shutil.copytree(split.submissions, again)
    (again / f"{name}.csv").write_text("id,label\n")
    about = read_json(again / f"{name}.json")
    about["made_of"]["tiny~epochs=1"]["lr"] = 0.5
    write_json(again / f"{name}.json", about)
    said = failure("tools.reproduce", "--submission", name)
    assert f"the bytes of {name}.csv differ from data/shapes/reproduced" in said and "recipe: lr was" in said
