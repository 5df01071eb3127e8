"""TOML to settings: strict, typed, and all that ship can be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.learner.models import build_model
from pipeline.pixels.augment import train_transforms
from pipeline.records.command_line import parser_for
from pipeline.records.competition import load_competition, with_names
from pipeline.records.paths import RECIPES, Paths, known_recipes, parse_folds, run_name
from pipeline.records.recipe import load_recipe
from pipeline.system.errors import FoldwiseError
from pipeline.system.settings import toml_text

CHECKOUT = Path(__file__).parents[2]


def test_every_shipped_recipe_is_valid_and_says_when_to_use_it() -> None:
    names = known_recipes()
    assert {"tiny", "digits", "resnet18", "resnet50"} <= set(names)
    for name in names:
        recipe = load_recipe(name, [])
        train_transforms(recipe, ["hflip", "vflip", "rot90", "transpose"])
        build_model(recipe, 3)
        assert (RECIPES / f"{name}.toml").read_text().startswith("# "), f"{name}.toml has no header"


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
    assert with_names(pattern, needed) == expected


def test_settings_add_up_however_they_are_given() -> None:
    given = parser_for("", run=True).parse_args(["--set", "lr=1e-3", "epochs=7", "--set", "seed=1"])
    assert given.set == ["lr=1e-3", "epochs=7", "seed=1"]
    assert parser_for("", run=True).parse_args([]).set == []


def test_settings_are_typed_as_toml_types_them() -> None:
    recipe = load_recipe("tiny", ["lr=1e-3", "epochs=7", "pretrained=true", "model=resnet34", "augment.erase.p=0.5"])
    assert (recipe.lr, recipe.epochs, recipe.pretrained, recipe.model) == (1e-3, 7, True, "resnet34")
    assert recipe.augment == {"erase": {"p": 0.5}}
    with pytest.raises(Exception, match="frozen"):
        recipe.epochs = 3  # type: ignore[misc]


def test_a_resolved_recipe_reads_back_as_itself(tmp_path: Path) -> None:
    import tomllib

    recipe = load_recipe(
        "digits", ["model_args.width=48", 'model="torchvision/resnet18"', "augment.erase.size=[0.1,0.2]"]
    )
    assert type(recipe)(**tomllib.loads(toml_text(recipe.model_dump()))) == recipe


def test_names_of_runs() -> None:
    assert run_name("resnet18", []) == "resnet18"
    assert run_name("resnet18", ["lr=1e-3", "epochs=2"]) == "resnet18~epochs=2~lr=1e-3"
    assert "/" not in run_name("resnet18", ["model=torchvision/resnet18"])


def test_folds_asked_for() -> None:
    assert parse_folds("", 3) == [0, 1, 2]
    assert parse_folds("2,0", 3) == [0, 2]
    for text in ("3", "x", "-1"):
        with pytest.raises(FoldwiseError, match="folds 0 to 2"):
            parse_folds(text, 3)
