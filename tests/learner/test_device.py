"""Devices by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.learner.device import find_device, seed_torch
from pipeline.records.paths import Paths
from pipeline.system.errors import FoldwiseError
from tests.conftest import Failure, start_stage


def test_a_device_that_is_not_here() -> None:
    assert find_device("cpu").type == "cpu"
    with pytest.raises(FoldwiseError, match="no device 'cuda:99'"):
        find_device("cuda:99")


@pytest.mark.parametrize(("name", "number"), [("cuda:1", 1), ("cuda", 0), ("auto", 0)])
def test_device_cuda_1_sets_the_device(name: str, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that torch's questions about memory and bfloat16 concern the GPU that is used."""
    current: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    assert find_device(name) == torch.device("cuda", number)
    assert current == [torch.device("cuda", number)]


def test_seeds_are_those_of_torch() -> None:
    """The same draws as with torch.manual_seed, which takes 0.3 ms."""
    for key in ((1, 0), (42, 3, 10**6, 1)):
        seed_torch(torch.device("cpu"), *key)
        drawn = torch.rand(3)
        torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0]))
        assert torch.equal(drawn, torch.rand(3))


def test_no_gpu(split: Paths, failure: Failure, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    said = failure("train", "--fold", "0", "--device", "cuda:7")
    assert "there is no device 'cuda:7' on this machine; leave DEVICE out" in said
    process = start_stage(root, "train", "--fold", "0")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0 and "to validate; cpu" in out, err
