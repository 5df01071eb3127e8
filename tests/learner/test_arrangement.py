"""How a fold is computed, and how a batch is brought to fit the memory."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import pipeline.train
from pipeline.learner import arrangement as memory
from pipeline.learner import networks
from pipeline.learner.arrangement import choose_arrangement, made_easier
from pipeline.learner.device import choose_workers
from pipeline.learner.fold_data import FoldData
from pipeline.learner.resident import CachedLoader
from pipeline.pixels.dataset import Loader
from pipeline.pixels.preprocessing import IMAGENET
from pipeline.records.command_line import Machine
from pipeline.records.paths import Paths
from pipeline.system.files import read_json, write_json
from tests.conftest import Stage
from tests.learner.networks import recipe
from tests.trainings import FOLD_0, forget, stopped_at_once, trained


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


def test_determinism_is_set_before_the_trial_step(split: Paths, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """cuBLAS reads its variable when it starts, and that is in the trial step."""
    monkeypatch.setattr(memory, "SPLIT_BATCH_ON", ("cpu", "cuda"))
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    seen: list[tuple[bool, str | None]] = []
    attempt = memory.try_step

    def note_and_try(*arguments: Any) -> None:
        seen.append((torch.are_deterministic_algorithms_enabled(), os.environ.get("CUBLAS_WORKSPACE_CONFIG")))
        attempt(*arguments)

    monkeypatch.setattr(memory, "try_step", note_and_try)
    try:
        stage("train", *FOLD_0[:-1], "--deterministic")
    finally:
        torch.use_deterministic_algorithms(False)
    assert seen == [(True, ":4096:8")]


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
    monkeypatch.setattr(memory, "SPLIT_BATCH_ON", ("cpu", "cuda"))
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


def test_a_later_step_that_does_not_fit_leads_to_smaller_parts(
    split: Paths, stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another program takes memory after the trial step; the training goes on from its last checkpoint."""
    monkeypatch.setitem(networks.REGISTERED, "greedy", networks.Registered(Greedy, IMAGENET))
    monkeypatch.setattr(memory, "SPLIT_BATCH_ON", ("cpu", "cuda"))
    steps = []

    def forward(module: Greedy, inputs: torch.Tensor) -> torch.Tensor:
        steps.append(len(inputs))
        if module.training and len(steps) > 6 and len(inputs) > 8:
            raise RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")
        return module.linear(inputs.mean((2, 3)))

    monkeypatch.setattr(Greedy, "forward", forward)
    stage("train", "--fold", "0", "--set", "model=greedy", "epochs=6")
    said = capsys.readouterr().out
    assert "the memory is full; no images stay on the GPU from now on" in said
    assert "the memory is full; each batch now goes through the model in 2 parts" in said
    folder = next(split.runs.glob("*/fold0"))
    facts = json.loads((folder / "trained.json").read_text())
    assert (facts["parts"], facts["kept_bytes"]) == (2, 0)
    assert len(pd.read_csv(folder / "log.csv")) == 6


@pytest.mark.parametrize(("kept", "kind"), [(10**6, CachedLoader), (10, Loader)])
def test_pictures_stay_on_the_device_by_what_was_recorded(
    kept: int, kind: type, split: Paths, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by the memory that is free when the fold is resumed."""
    monkeypatch.setattr(memory, "bytes_to_keep", lambda _: kept)
    with stopped_at_once():
        stage("train", *FOLD_0, "epochs=2")
    record = next(split.runs.glob("*/fold0/arrangement.json"))
    assert json.loads(record.read_text())["kept_bytes"] == kept
    monkeypatch.setattr(memory, "bytes_to_keep", lambda _: pytest.fail("it was asked again"))
    loaded: list[FoldData] = []
    load = pipeline.train.load_data

    def load_and_note(*arguments: Any) -> FoldData:
        loaded.append(load(*arguments))
        return loaded[0]

    monkeypatch.setattr(pipeline.train, "load_data", load_and_note)
    stage("train", *FOLD_0, "epochs=2")
    assert type(loaded[0].val) is kind


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_clips_accumulates_and_resumes(
    dtype: str, split: Paths, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """float16, with its scaler, is the default of cards without bfloat16, and is held to the same."""
    choose = memory.choose_arrangement
    monkeypatch.setattr(memory, "choose_arrangement", lambda *args: dataclasses.replace(choose(*args), dtype=dtype))
    settings = ["epochs=3", "accumulate=2", "clip_grad=1", "ema_decay=0.9", "mixup=0.4", "batch_size=16"]
    stage("train", *FOLD_0, *settings)
    undisturbed = trained(split)
    folder = next(split.runs.glob("*/fold0"))
    facts = json.loads((folder / "trained.json").read_text())
    assert facts["dtype"] == dtype and facts["last_epoch"]["val_loss"] < 2
    forget(split)
    for _ in range(3):
        with stopped_at_once():
            stage("train", *FOLD_0, *settings)
        state = torch.load(next(split.runs.glob("*/fold0/checkpoints/*/trainer.pt")), weights_only=True)
        assert ("scale" in state["scaler"]) == (dtype == "float16")
    stage("train", *FOLD_0, *settings)
    assert trained(split) == undisturbed


def test_ranks_that_fail_together_change_the_arrangement_once(tmp_path: Path) -> None:
    record, full = tmp_path / "arrangement.json", RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
    write_json(record, {"device": "cuda", "compiled": False, "parts": 1, "kept_bytes": 5})
    began = time.time()
    assert "no images stay on the GPU" in made_easier(record, full, 8, began)
    assert "another process of this fold has changed how it is computed" in made_easier(record, full, 8, began)
    assert read_json(record)["parts"] == 1
    assert "in 2 parts" in made_easier(record, full, 8, time.time())  # the next attempt
