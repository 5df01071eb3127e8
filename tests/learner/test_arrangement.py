"""How a fold is computed, and how a batch is brought to fit the memory."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from pipeline.learner import arrangement as memory
from pipeline.learner import networks
from pipeline.learner.arrangement import choose_arrangement, parts_that_fit
from pipeline.learner.device import choose_workers
from pipeline.pixels.preprocessing import IMAGENET
from pipeline.records.command_line import Machine
from pipeline.records.paths import Paths
from pipeline.system.errors import FoldwiseError
from tests.conftest import Stage
from tests.learner.networks import recipe
from tests.trainings import forget


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


@pytest.mark.parametrize(("emulated_only", "dtype"), [(True, "float16"), (False, "bfloat16")])
def test_cards_that_only_emulate_bf16_use_fp16(
    emulated_only: bool, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_supported(including_emulation: bool = True) -> bool:
        return including_emulation or not emulated_only

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", is_supported)
    chosen = choose_arrangement(recipe(), torch.device("cuda"), Machine(threads=1), 100)
    assert chosen.dtype == dtype
    for amp, named in (("bf16", "bfloat16"), ("fp16", "float16"), ("off", "float32")):
        asked = choose_arrangement(recipe(amp=amp), torch.device("cuda"), Machine(threads=1), 100)
        assert asked.dtype == named


class Greedy(nn.Module):
    """A model for whose memory more than four images are too much."""

    def __init__(self, num_classes: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(3, num_classes)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if self.training and len(inputs) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return self.linear(inputs.mean((2, 3)))


def test_gpu_memory(
    split: Paths, stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Batches of 16 in four parts make the weights that whole ones make, and a resumed fold keeps to them."""
    monkeypatch.setitem(networks.REGISTERED, "greedy", networks.Registered(Greedy, IMAGENET))
    monkeypatch.setattr(memory, "SPLIT_BATCH_ON", ("cpu",))
    stage("train", "--fold", "0", "--set", "model=greedy", "epochs=3")
    assert "each batch goes through the model in 4 parts" in capsys.readouterr().out
    folder = next(split.runs.glob("*/fold0"))
    assert json.loads((folder / "arrangement.json").read_text())["parts"] == 4
    in_parts = load_file(folder / "weights.safetensors")
    (folder / "trained.json").unlink()
    monkeypatch.setattr(memory, "parts_that_fit", lambda *_: pytest.fail("it was tried again"))
    stage("train", "--fold", "0", "--set", "model=greedy", "epochs=3")
    assert torch.equal(in_parts["linear.weight"], load_file(folder / "weights.safetensors")["linear.weight"])
    forget(split)
    monkeypatch.setattr(memory, "SPLIT_BATCH_ON", ())
    monkeypatch.setattr(Greedy, "forward", lambda module, inputs: module.linear(inputs.mean((2, 3))))
    stage("train", "--fold", "0", "--set", "model=greedy", "epochs=3")
    whole = load_file(next(split.runs.glob("*/fold0")) / "weights.safetensors")
    torch.testing.assert_close(in_parts["linear.weight"], whole["linear.weight"], atol=1e-5, rtol=1e-4)

    def never(parts: int) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(FoldwiseError, match="too small for one image at a time"):
        parts_that_fit(never, 1, 16)
