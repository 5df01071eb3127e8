"""Parts of training against independent references."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch import nn
from torchvision.transforms import functional as reference

from pipeline.learner.arrangement import Compute, choose_arrangement
from pipeline.learner.checkpoint import load_weights, save_weights
from pipeline.learner.device import choose_workers, find_device
from pipeline.learner.inference import View, apply_view, folded, predict, tta_views
from pipeline.learner.inputs import Mixer, Normalize
from pipeline.learner.models import Network, build_model
from pipeline.learner.networks import REGISTERED
from pipeline.learner.optimizer import build_optimizer, lr_at, parameter_groups
from pipeline.pixels.dataset import Batch
from pipeline.pixels.preprocessing import IMAGENET
from pipeline.records.command_line import Machine
from pipeline.records.recipe import Recipe
from pipeline.records.task import Classification
from pipeline.system.errors import FoldwiseError


def recipe(**changes: object) -> Recipe:
    """A recipe with the essentials."""
    return Recipe.model_validate({"model": "small_cnn", "image_size": 16, "epochs": 10, "lr": 0.1, **changes})


def network(name: str, classes: int, pretrained: bool | str = False, **model_args: object) -> Network:
    """A network by name, for images of 32 px."""
    return build_model(recipe(model=name, image_size=32, model_args=model_args), classes, pretrained)


def compute_of(recipe: Recipe) -> Compute:
    """That of a CPU."""
    device = torch.device("cpu")
    return Compute(device, choose_arrangement(recipe, device, Machine(threads=1), 100))


@pytest.mark.parametrize("channels_last", [False, True])
def test_normalisation_is_torchvisions(channels_last: bool) -> None:
    images = torch.randint(0, 256, (5, 7, 9, 3), dtype=torch.uint8)
    expected = reference.normalize(images.permute(0, 3, 1, 2) / 255, IMAGENET.mean, IMAGENET.std)
    inputs = Normalize(IMAGENET, channels_last)(images)
    torch.testing.assert_close(inputs, expected, atol=1e-5, rtol=1e-5)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    assert inputs.is_contiguous(memory_format=layout)


def test_the_schedule_warms_up_and_ends_near_zero() -> None:
    lrs = [lr_at(step, 10, recipe(warmup_epochs=1)) for step in range(100)]
    assert lrs[0] == pytest.approx(0.1 / 11) and lrs[10] == pytest.approx(0.1) and lrs[55] == pytest.approx(0.05)
    assert lrs == sorted(lrs[:11]) + sorted(lrs[11:], reverse=True) and 0 < lrs[-1] < 1e-4
    assert max(range(10), key=lambda step: lr_at(step, 10, recipe(epochs=1, warmup_epochs=5))) == 5
    assert {lr_at(step, 10, recipe(schedule="constant")) for step in range(100)} == {0.1}


def test_norms_and_biases_have_no_weight_decay() -> None:
    module = network("resnet18", 2).module
    decayed, free = parameter_groups(module, Recipe(model="resnet18", image_size=8, epochs=1, lr=1))
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.05, 0.0)
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(free["params"]) == 2 * len(norms) + 1  # weight and bias of each, and the head's bias
    assert len(decayed["params"]) + len(free["params"]) == len(list(module.parameters()))


@pytest.mark.parametrize(
    ("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)]
)
def test_optimizers(name: str, kind: type) -> None:
    assert type(build_optimizer(nn.Linear(2, 2), recipe(optimizer=name), torch.device("cpu"))) is kind


def test_balanced_weights_are_scikit_learns_and_smoothing_is_torchs() -> None:
    labels = np.array([0] * 6 + [1] * 3 + [2])
    choices = recipe(class_weights="balanced", label_smoothing=0.1)
    loss = Classification(["a", "b", "c"]).loss(np.eye(3, dtype=np.float32)[labels], choices)
    assert isinstance(loss, nn.CrossEntropyLoss) and loss.weight is not None
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    np.testing.assert_allclose(loss.weight.numpy(), expected, rtol=1e-6)
    assert loss.label_smoothing == 0.1


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_mixing_mixes_targets_as_it_mixes_pixels(kind: str) -> None:
    torch.manual_seed(0)
    inputs = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 3, 16, 16).clone()
    targets = torch.eye(4)
    mixed, mixed_targets = Mixer(recipe(**{kind: 1.0}))(inputs, targets)
    assert not torch.equal(mixed, inputs)
    torch.testing.assert_close(mixed_targets.sum(dim=1), torch.ones(4))
    torch.testing.assert_close(mixed.mean(dim=(1, 2, 3)), mixed_targets @ torch.arange(4.0))
    same, same_targets = Mixer(recipe(**{kind: 1.0}, mix_probability=0))(inputs, targets)
    assert torch.equal(same, inputs) and torch.equal(same_targets, targets)


@pytest.mark.parametrize(
    ("symmetries", "number"),
    [([], 1), (["hflip"], 2), (["hflip", "vflip"], 4), (["rot90"], 4), (["rot90", "hflip"], 8), (["transpose"], 2)],
)
def test_views_are_all_that_the_symmetries_make(symmetries: list[str], number: int) -> None:
    views = tta_views(symmetries)
    picture = torch.randn(1, 3, 6, 6)
    assert len({apply_view(picture, view).numpy().tobytes() for view in views}) == number == len(views)
    assert views[0] == ()


def test_predictions_are_means_over_views_by_row() -> None:
    module, normalize = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 3)), Normalize(IMAGENET)
    images = torch.randint(0, 256, (5, 4, 4, 3), dtype=torch.uint8)

    class Shuffled:
        def __len__(self) -> int:
            return 2

        def epoch(self, epoch: int = 0, start: int = 0) -> Iterator[Batch]:
            yield images[[4, 1]], torch.tensor([4, 1])
            yield images[[0, 2, 3]], torch.tensor([0, 2, 3])

    other = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 3))
    views: list[View] = [(), ("hflip",)]
    probs, of_other = predict(
        [module, other], normalize, Shuffled(), Classification(["a", "b", "c"]), views, compute_of(recipe())
    )
    inputs = normalize(images)
    expected = (module(inputs).softmax(1) + module(inputs.flip(3)).softmax(1)) / 2
    np.testing.assert_allclose(probs, expected.detach().numpy(), atol=1e-6)
    assert np.abs(of_other - probs).max() > 0.01


#: The last is a hybrid of a ResNet and a transformer.
@pytest.mark.parametrize("name", [*REGISTERED, "resnet18", "torchvision/resnet18", "vit_tiny_r_s16_p8_224"])
def test_models_by_name(name: str) -> None:
    assert network(name, 7).module.eval()(torch.randn(2, 3, 32, 32)).shape == (2, 7)


def test_models_that_cannot_be_had() -> None:
    with pytest.raises(FoldwiseError, match="did you mean 'small_cnn'"):
        network("smal_cnn", 2)
    with pytest.raises(FoldwiseError, match="no pretrained weights of 'small_cnn'"):
        network("small_cnn", 2, pretrained=True)


@pytest.mark.parametrize("name", ["small_cnn", "resnet18", "torchvision/resnet50", "efficientnet_b0"])
def test_folding_batchnorm_changes_no_probability(name: str) -> None:
    torch.manual_seed(0)
    module = network(name, 3).module.eval()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):  # as after a training
            assert part.running_mean is not None and part.running_var is not None
            nn.init.uniform_(part.weight, 0.8, 1.2)
            nn.init.normal_(part.bias, std=0.1)
            nn.init.normal_(part.running_mean, std=0.1)
            nn.init.uniform_(part.running_var, 0.8, 1.25)
    head = [part for part in module.modules() if isinstance(part, nn.Linear)][-1]
    inputs = torch.randn(4, 3, 64, 64) * torch.arange(1, 5).view(4, 1, 1, 1)
    with torch.inference_mode():
        logits = module(inputs)
        spread = logits.std(dim=0).max()  # the head is made to tell the pictures apart
        head.weight /= spread
        head.bias.copy_((head.bias - logits.mean(dim=0)) / spread)
        expected = module(inputs).softmax(1)
        quick = folded(module)
        torch.testing.assert_close(quick(inputs).softmax(1), expected, atol=1e-5, rtol=0)
    assert expected.std(dim=0).max() > 0.01
    if name != "efficientnet_b0":  # whose norms hold their activations
        assert not any(isinstance(part, nn.BatchNorm2d) for part in quick.modules())


def test_a_module_that_cannot_be_traced_is_left_as_it_is() -> None:
    class Branching(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum() > 0 else -x

    module = Branching()
    assert folded(module) is module


def test_rules_of_the_machine() -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    small, large = (
        choose_arrangement(recipe(image_size=side), cpu, Machine(threads=1), 10_000_000) for side in (64, 224)
    )
    assert small.channels_last and large.channels_last and small.threads == 1
    assert {small.dtype, large.dtype} == {"float32"}
    assert not small.compiled and not large.compiled
    assert choose_workers(None, cpu, True, 16) == 0 and choose_workers(3, cpu, True, 16) == 3
    assert choose_workers(None, cuda, True, 16) == 4 and choose_workers(None, cuda, False, 16) == 15
    assert choose_workers(None, cuda, False, 1) == 1


def test_a_device_that_is_not_here() -> None:
    assert find_device("cpu").type == "cpu"
    with pytest.raises(FoldwiseError, match="no device 'cuda:99'"):
        find_device("cuda:99")


def test_weights_come_back_with_what_they_are(tmp_path: Path) -> None:
    module, path = network("small_cnn", 2, width=4).module, tmp_path / "w.safetensors"
    sha256 = save_weights(path, module, {"fold": 3})
    weights, about = load_weights(path, sha256)
    assert about == {"fold": 3} and set(weights) == set(module.state_dict())
    assert all(torch.equal(weights[name], tensor) for name, tensor in module.state_dict().items())
    content = bytearray(path.read_bytes())
    content[-1] ^= 1  # which safetensors itself would load
    path.write_bytes(content)
    with pytest.raises(FoldwiseError, match="has changed since it was written"):
        load_weights(path, sha256)
