"""Weights from elsewhere, frozen backbones, learning rates by layer."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch
import torchvision
from torch import nn

from pipeline.learner.blocks import frozen_in
from pipeline.learner.models import Network, build_model
from pipeline.learner.optimizer import build_optimizer, set_lr
from pipeline.learner.transfer import head_of, renew_head, set_frozen
from pipeline.pixels.preprocessing import MINUS_ONE_TO_ONE
from pipeline.records.paths import Paths
from pipeline.records.recipe import Recipe
from pipeline.system.errors import FoldwiseError
from tests.conftest import Stage


def recipe(model: str = "resnet18", **changes: object) -> Recipe:
    """A recipe with the essentials."""
    return Recipe.model_validate({"model": model, "image_size": 32, "epochs": 4, "lr": 0.1, **changes})


def network(model: str, pretrained: bool | str = False, **changes: object) -> Network:
    """A network of three classes."""
    return build_model(recipe(model, **changes), 3, pretrained)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one ResNet-18 in the forms that people keep: classes of its own, BatchNorm as after a training."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(1)
    state = torchvision.models.resnet18(num_classes=1000).state_dict()
    torch.save(state, folder / "resnet18.pth")
    torch.save({"epoch": 3, "state_dict": {f"module.{key}": value for key, value in state.items()}}, folder / "ddp.pth")
    safetensors.torch.save_file(state, folder / "resnet18.safetensors")
    grey = {**state, "conv1.weight": state["conv1.weight"].sum(1, keepdim=True)}
    safetensors.torch.save_file(grey, folder / "grey.safetensors")
    about = {"preprocessing": MINUS_ONE_TO_ONE._replace(interpolation="bicubic", crop_share=0.9)._asdict()}
    safetensors.torch.save_file(state, folder / "own.safetensors", metadata={"foldwise": json.dumps(about)})
    (folder / "cut.safetensors").write_bytes((folder / "resnet18.safetensors").read_bytes()[:100_000])
    (folder / "cut.pth").write_bytes((folder / "resnet18.pth").read_bytes()[:100_000])
    (folder / "text.pth").write_text("not weights")
    wild = {**state, "layer1.0.bn1.weight": torch.full((64,), torch.nan)}
    safetensors.torch.save_file(wild, folder / "wild.safetensors")
    shut = {"foldwise": json.dumps({"preprocessing": MINUS_ONE_TO_ONE._replace(std=(0.0,) * 3)._asdict()})}
    safetensors.torch.save_file(state, folder / "shut.safetensors", metadata=shut)
    safetensors.torch.save_file(state, folder / "odd.safetensors", metadata={"foldwise": '{"preprocessing": 5}'})
    return folder


@pytest.mark.parametrize("model", ["resnet18", "torchvision/resnet18", "foldwise/resnet18"])
@pytest.mark.parametrize("file", ["resnet18.pth", "ddp.pth", "resnet18.safetensors", "own.safetensors"])
def test_a_file_gives_the_backbone_and_the_head_is_new(weights: Path, model: str, file: str) -> None:
    state = safetensors.torch.load_file(weights / "resnet18.safetensors")
    module = network(model, str(weights / file)).module
    loaded = module.state_dict()
    assert head_of(module) == ["fc"] and loaded["fc.weight"].shape == (3, 512)
    assert all(torch.equal(loaded[key], value) for key, value in state.items() if not key.startswith("fc."))


def test_grey_weights_are_spread_over_three_channels(weights: Path) -> None:
    """A grey picture gives what it gave the grey network."""
    first = network("resnet18", str(weights / "grey.safetensors")).module.get_submodule("conv1")
    grey = safetensors.torch.load_file(weights / "grey.safetensors")["conv1.weight"]
    picture = torch.rand(1, 1, 32, 32)
    expected = nn.functional.conv2d(picture, grey, stride=2, padding=3)
    torch.testing.assert_close(first(picture.expand(1, 3, 32, 32)), expected, atol=1e-5, rtol=1e-4)


def test_preprocessing_comes_with_the_weights(weights: Path) -> None:
    told = network("foldwise/resnet18", str(weights / "own.safetensors")).preprocessing
    assert (told.interpolation, told.crop_share, list(told.mean)) == ("bicubic", 0.9, [0.5] * 3)
    of_timm = timm.get_pretrained_cfg("resnet18")  # as its weights were trained, where the file does not tell
    told = network("resnet18", str(weights / "resnet18.safetensors")).preprocessing
    assert (told.interpolation, told.crop_share, told.mean) == (of_timm.interpolation, of_timm.crop_pct, of_timm.mean)
    assert network("resnet18").preprocessing.crop_share == 0.875  # from scratch nothing asks for theirs


@pytest.mark.parametrize(
    ("model", "file", "said"),
    [
        ("resnet18", "nowhere.pth", "there are no weights at"),
        ("resnet18", "cut.safetensors", "is damaged or holds no weights"),
        ("resnet18", "cut.pth", "is damaged or holds no weights"),
        ("resnet18", "text.pth", "is damaged or holds no weights"),
        ("resnet18", "wild.safetensors", "'layer1.0.bn1.weight' holds NaN or infinite values"),
        ("resnet18", "odd.safetensors", "is damaged or holds no weights"),
        ("resnet18", "shut.safetensors", "its preprocessing is not valid"),
        ("resnet34", "resnet18.pth", "of another architecture than model 'resnet34': .* missing"),
        ("lenet", "resnet18.pth", "of another architecture than model 'lenet'"),
    ],
)
def test_files_that_do_not_serve(weights: Path, model: str, file: str, said: str) -> None:
    with pytest.raises(FoldwiseError, match=said) as fault:
        network(model, str(weights / file))
    assert "\n" not in str(fault.value) and file in str(fault.value)


#: A model of each family, small.
FAMILIES = [
    "resnet10t", "tf_efficientnet_lite0", "mobilenetv3_small_050", "convnext_atto", "vit_tiny_patch16_224",
    "regnetx_002", "swin_tiny_patch4_window7_224", "densenet121", "torchvision/mobilenet_v2",
    "torchvision/squeezenet1_1", "foldwise/resnet18", "small_cnn",
]  # fmt: skip


@pytest.mark.parametrize("model", FAMILIES)
def test_the_first_loss_of_a_new_head_is_that_of_equal_predictions(model: str) -> None:
    torch.manual_seed(0)
    module = build_model(recipe(model, image_size=64), 7).module.train()  # so that BatchNorm sees these images
    renew_head(module)
    with torch.inference_mode():
        logits = module(torch.randn(8, 3, 64, 64))
    loss = nn.functional.cross_entropy(logits, torch.arange(8) % 7)
    assert float(loss) == pytest.approx(math.log(7), rel=0.05) and float(logits.std()) > 0


def steps(module: nn.Module, options: Recipe, number: int = 3) -> None:
    """A few steps of training on noise."""
    optimizer = build_optimizer(module, options, torch.device("cpu"))
    for _ in range(number):
        set_lr(optimizer, options.lr)
        nn.functional.cross_entropy(module(torch.randn(4, 3, 32, 32)), torch.tensor([0, 1, 2, 0])).backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize(
    ("model", "optimizer"),
    [("resnet18", "sgd"), ("torchvision/resnet18", "adam"), ("small_cnn", "adamw")],
)
def test_a_frozen_backbone_changes_by_no_bit(model: str, optimizer: str) -> None:
    torch.manual_seed(0)
    options = recipe(model, optimizer=optimizer, lr=1e-2, weight_decay=0.1, freeze=True)
    module = build_model(options, 3).module
    before = {key: value.clone() for key, value in module.state_dict().items()}
    set_frozen(module, frozen_in(module, options, 0))
    steps(module, options)
    changed = {key for key, value in module.state_dict().items() if not torch.equal(value, before[key])}
    head = head_of(module)[0]
    assert changed == {f"{head}.weight", f"{head}.bias"}
    set_frozen(module, lambda _: False)
    steps(module, options)
    after = module.state_dict()
    assert all(not torch.equal(after[key], before[key]) for key in before if key.endswith(("weight", "running_mean")))


def test_the_head_learns_ten_times_as_fast() -> None:
    module = network("resnet18").module
    optimizer = build_optimizer(module, recipe(head_lr_scale=10), torch.device("cpu"))
    set_lr(optimizer, 0.02)
    rates = {id(parameter): group["lr"] for group in optimizer.param_groups for parameter in group["params"]}
    assert len(rates) == len(list(module.parameters()))
    for name, parameter in module.named_parameters():
        assert rates[id(parameter)] == pytest.approx(0.2 if name.startswith("fc.") else 0.02)


def test_layers_further_down_learn_more_slowly_as_timm_has_it() -> None:
    module = network("resnet18").module
    optimizer = build_optimizer(module, recipe(layer_decay=0.5), torch.device("cpu"))
    scales = {id(parameter): group["lr_scale"] for group in optimizer.param_groups for parameter in group["params"]}
    expected = {
        id(parameter): group["lr_scale"]
        for group in timm.optim.param_groups_layer_decay(module, layer_decay=0.5)
        for parameter in group["params"]
    }
    assert scales == expected and len(set(scales.values())) > 4 and scales[id(module.get_parameter("fc.bias"))] == 1
    lenet = network("lenet").module
    optimizer = build_optimizer(lenet, recipe("lenet", layer_decay=0.5), torch.device("cpu"))
    scales = {id(parameter): group["lr_scale"] for group in optimizer.param_groups for parameter in group["params"]}
    assert [scales[id(part.weight)] for part in lenet.children() if hasattr(part, "weight")] == [
        1 / 16,
        1 / 8,
        1 / 4,
        1 / 2,
        1,
    ]


def test_a_fold_trained_from_the_checkpoint_of_another(split: Paths, stage: Stage, failure: Callable[..., str]) -> None:
    """Frozen throughout, or for an epoch; another fold of the same run needs the file as well, and says so."""
    stage("train", "--fold", "0")
    source = split.fold("tiny", 0) / "weights.safetensors"
    settings = [f"pretrained={source}", "freeze=true", "unfreeze_after=1", "head_lr_scale=10", "epochs=2"]
    stage("train", "--fold", "1", "--set", *settings[:2], "epochs=2")
    folder = next(path for path in split.runs.glob("*/fold1") if "unfreeze" not in path.parent.name)
    frozen, old = (safetensors.torch.load_file(path / "weights.safetensors") for path in (folder, source.parent))
    differing = {key for key in old if not torch.equal(frozen[key], old[key])}
    assert {key.rpartition(".")[0] for key in differing} == set(head_of(network("small_cnn").module))
    stage("train", "--fold", "1", "--set", *settings)
    folder = next(path for path in split.runs.glob("*/fold1") if "unfreeze" in path.parent.name)
    freed = safetensors.torch.load_file(folder / "weights.safetensors")
    assert all(not torch.equal(freed[key], old[key]) for key in old if key.endswith("weight"))
    content = source.read_bytes()
    source.write_bytes(content[:-8])
    assert "damaged" in failure("train", "--fold", "2", "--set", *settings)
    other = bytearray(content)
    other[-1] ^= 1
    source.write_bytes(other)  # weights, but others: the folds of one run would not be alike
    assert "start from the same weights" in failure("train", "--fold", "2", "--set", *settings)
