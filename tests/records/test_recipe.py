"""Recipes and their settings."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import tomli_w

from pipeline.driver.options import Options
from pipeline.driver.plan import make_plan
from pipeline.learner.models import build_model
from pipeline.pixels.augment import eval_transforms, train_transforms
from pipeline.records.command_line import parser_for
from pipeline.records.paths import RECIPES, Paths, known_recipes
from pipeline.records.recipe import load_recipe
from pipeline.system.places import CHECKOUT
from tests.conftest import Failure, Stage
from tests.mutations import outcomes


def test_every_shipped_recipe_is_valid_and_says_when_to_use_it() -> None:
    names = known_recipes()
    assert {"tiny", "digits", "resnet18", "resnet50"} <= set(names)
    for name in names:
        recipe = load_recipe(name, [])
        train_transforms(recipe, ["hflip", "vflip", "rot90", "transpose"])
        build_model(recipe, 3)
        assert (RECIPES / f"{name}.toml").read_text().startswith("# "), f"{name}.toml has no header"


def test_settings_add_up_however_they_are_given() -> None:
    given = parser_for("", "run").parse_args(["--set", "lr=1e-3", "epochs=7", "--set", "seed=1"])
    assert given.set == ["lr=1e-3", "epochs=7", "seed=1"]
    assert parser_for("", "run").parse_args([]).set == []


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
    assert type(recipe)(**tomllib.loads(tomli_w.dumps(recipe.model_dump(exclude_none=True)))) == recipe


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (["--recipe", "resnet19"], "unknown recipe 'resnet19'; did you mean 'resnet18'?"),
        (["--set", "epoch=2"], "unknown key 'epoch'; did you mean 'epochs'?"),
        (["--set", "epochs=many"], "epochs"),
        (["--set", "epochs=0"], "greater than or equal to 1"),
        (["--set", "lr"], "key=value"),
        (["--set", "lr=1", "epochs=2", "lr=2"], "the setting 'lr' is given 2 times"),
        (["--set", "model_args.width=0"], "no weights in '0.weight' with model_args {'width': 0}"),
        (["--set", "model_args.width=-1"], "cannot be built with model_args {'width': -1}"),
        (["--set", "model_args.width=10000000000000"], "it needs more memory than this machine has"),
        (
            ["--set", "pretrained=/etc/passwd"],
            "holds no weights (it is neither a .safetensors nor a .pth file)",
        ),
        (["--set", "model=resnet81"], "unknown model 'resnet81'; did you mean 'resnet18"),
        (["--set", "model=torchvision/resnet81"], "did you mean 'resnet18'?"),
        (["--set", "model_args.widht=8"], "widht"),
        (["--set", "augment.afine.degrees=5"], "did you mean 'affine'?"),
        (["--set", "augment.affine.degree=5"], "did you mean 'degrees'?"),
        (["--device", "cuda:7"], "no device 'cuda:7'"),
        (["--device", "gpu"], "unknown device 'gpu'"),
    ],
)
def test_wrong_choices(split: Paths, stage: Stage, failure: Failure, settings: list[str], expected: str) -> None:
    assert expected in failure("train", "--fold", "0", *settings)


CELLS = ["", "NaN", "-1", "1e999", "9" * 30, "0.5", "inf", "größe", '"', "'", "a,b", "\0", "x" * 5000, "null", "[", "="]


def test_a_damaged_recipe(split: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(CHECKOUT / "pipeline" / "recipes", tmp_path / "recipes")
    monkeypatch.setattr("pipeline.records.paths.RECIPES", tmp_path / "recipes")
    recipe_file = tmp_path / "recipes" / "characters.toml"

    def read() -> None:
        make_plan(Options("shapes", "characters", device="cpu"))
        recipe = load_recipe("characters", [])
        train_transforms(recipe, ["hflip"])
        eval_transforms(recipe)
        if not recipe.pretrained:
            build_model(recipe, 2)

    assert min(outcomes(recipe_file, read).values()) > 30
