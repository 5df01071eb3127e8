"""competition.toml: every wrong fact is named."""

from __future__ import annotations

import pytest

import pipeline.folds
import pipeline.train
from pipeline.driver.options import Options
from pipeline.driver.plan import make_plan
from pipeline.manifest import make_manifest
from pipeline.records.competition import load_competition
from pipeline.records.paths import Paths, known_recipes
from pipeline.records.patterns import with_group_names
from pipeline.system.places import CHECKOUT
from tests.conftest import Edit, Failure
from tests.mutations import outcomes


def test_every_shipped_competition_is_valid_and_recommends_a_known_recipe() -> None:
    names = {path.parent.name for path in (CHECKOUT / "data").glob("*/competition.toml")}
    assert {"digits", "dogs-vs-cats", "cat-vs-humpback", "street-view-characters"} <= names
    for name in names:
        assert load_competition(Paths(name)).recipe in known_recipes()


@pytest.mark.parametrize(
    ("pattern", "needed", "expected"),
    [
        (r"^(.*?)_(\d+)\.jpg$", "label", r"^(?P<label>.*?)_(?P<id>\d+)\.jpg$"),
        (r"^(cat|dog)\.([0-9]+)\.jpg$", "label", r"^(?P<label>cat|dog)\.(?P<id>[0-9]+)\.jpg$"),
        (r"^(\d+)\.jpg$", "id", r"^(?P<id>\d+)\.jpg$"),
        (r"^([0-9a-f]+)\.jpg$", "id", r"^(?P<id>[0-9a-f]+)\.jpg$"),
        (r"^(?:img_)?(\w+)_(?P<id>\d+)\.png$", "label", r"^(?:img_)?(?P<label>\w+)_(?P<id>\d+)\.png$"),
        (r"^\((.+)\)_(\d+)\.png$", "label", r"^\((?P<label>.+)\)_(?P<id>\d+)\.png$"),
        (r"^.*\.jpg$", "label", r"^(?P<label>.+?)[._](?P<id>\d+)\.jpg$"),
    ],
)
def test_a_pattern_without_names_is_corrected(pattern: str, needed: str, expected: str) -> None:
    assert with_group_names(pattern, needed) == expected


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("metric ", "metrik ", "unknown key 'metrik'; did you mean 'metric'?"),
        ("seed = 42", "sed = 42", "unknown key 'folds.sed'; did you mean 'seed'?"),
        ('"accuracy"', '"acuracy"', "did you mean 'accuracy'?"),
        ("n    = 3", "n    = 1", "greater than or equal to 2"),
        ("[train]", "[train", "not valid TOML"),
        (r"^(?P<label>.*?)_(?P<id>\d+)\.png$", r"^(.*?)_(\d+)\.png$", r"^(?P<label>.*?)_(?P<id>\d+)\.png$"),
        (r"^(?P<id>\d+)\.png$", r"^(\d+)\.png$", r"^(?P<id>\d+)\.png$"),
        (r"(?P<id>\d+)\.png$'", r"(?P<id>\d+\.png$'", "not a regular expression"),
        ("[test]", "[tests]", "did you mean 'test'?"),
    ],
)
def test_wrong_facts(shapes: Paths, failure: Failure, edit: Edit, old: str, new: str, expected: str) -> None:
    edit(old, new)
    assert expected in failure("manifest")


CELLS = ["", "NaN", "-1", "1e999", "9" * 30, "0.5", "inf", "größe", '"', "'", "a,b", "\0", "x" * 5000, "null", "[", "="]


def test_damaged_facts(split: Paths) -> None:
    def read() -> None:
        make_plan(Options("shapes", device="cpu"))
        competition = load_competition(split)
        manifest, task, _, _ = make_manifest(split, competition, {})
        pipeline.folds.make_folds(manifest, task, competition, split)

    assert min(outcomes(split.toml, read).values()) > 30
