"""Compiled training on the CPU, with a compiler that needs no C compiler: the graphs, the bits, and the fallback."""

from __future__ import annotations

import shutil

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch._dynamo.utils import counters

from pipeline import train
from pipeline.learner import arrangement, compiling
from pipeline.learner.compiling import compiled, why_not_compiled
from pipeline.learner.networks import small_cnn
from pipeline.records.paths import Paths
from tests.conftest import Failure, Stage
from tests.learner.networks import recipe
from tests.trainings import FOLD_0, forget, stopped_at_once, trained

SETTINGS = ["epochs=3", "start_scale=0.5", "batch_size=16", "accumulate=3"]


@pytest.fixture(autouse=True)
def compile_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every training is compiled, by aot_eager on the CPU."""
    torch._dynamo.reset()
    monkeypatch.setattr(arrangement, "COMPILE_ON", ("cpu", "cuda"))
    monkeypatch.setattr(arrangement, "SPLIT_BATCH_ON", ("cpu", "cuda"))
    monkeypatch.setattr(arrangement, "COMPILE_FROM", 0)
    monkeypatch.setattr(compiling, "BACKEND", "aot_eager")


def test_each_size_has_a_static_graph_and_validation_none(monkeypatch: pytest.MonkeyPatch) -> None:
    counter = CompileCounterWithBackend("aot_eager")
    monkeypatch.setattr(compiling, "BACKEND", counter)
    module = small_cnn(2, width=4)
    forward = compiled(module, recipe(epochs=9, start_scale=0.25, image_size=64))
    sizes = [(6, 16), (4, 16), (6, 24), (6, 32), (4, 32), (6, 40), (6, 48), (6, 56), (6, 64), (4, 64)]
    for batch, side in sizes * 2:
        forward(torch.randn(batch, 3, side, side)).sum().backward()
    assert counter.frame_count == len(sizes)  # a graph for each, made once
    for graph in counter.graphs:
        inputs = [node.meta["example_value"] for node in graph.graph.nodes if node.op == "placeholder"]
        assert all(isinstance(side, int) for example in inputs for side in example.shape)
    module.eval()
    with torch.inference_mode():
        module(torch.randn(7, 3, 16, 16))
    assert counter.frame_count == len(sizes)


def test_a_resumed_fold_runs_the_same_graphs(split: Paths, stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    counters.clear()
    stage("train", *FOLD_0, *SETTINGS)
    assert counters["stats"]["unique_graphs"] > 0 and "not compiled" not in capsys.readouterr().out
    undisturbed = trained(split)
    forget(split)
    for _ in range(3):
        torch._dynamo.reset()  # as in a new process
        with stopped_at_once():
            stage("train", *FOLD_0, *SETTINGS)
    stage("train", *FOLD_0, *SETTINGS)
    assert trained(split) == undisturbed


def test_without_a_c_compiler_a_sentence_says_so(
    split: Paths, stage: Stage, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with stopped_at_once():  # begun where there is one
        stage("train", *FOLD_0, *SETTINGS)
    monkeypatch.setattr(compiling, "BACKEND", "inductor")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.delenv("CC", raising=False)
    capsys.readouterr()
    stage("train", *FOLD_0, *SETTINGS)
    stage("train", "--fold", "1", *FOLD_0[2:], *SETTINGS)
    said = capsys.readouterr().out
    assert said.count("the model is not compiled") == 2
    assert "the model is not compiled, and trains more slowly: there is no C compiler (gcc, clang, cc); install" in said
    monkeypatch.setenv("CC", "my-cc -O2")
    assert why_not_compiled() == "there is no C compiler (my-cc); install gcc"


def sometimes(graph: torch.fx.GraphModule, inputs: list) -> object:
    """A compiler that fails at a size that the trial step did not have."""
    if any(isinstance(each, torch.Tensor) and each.shape[-2:] == (8, 8) for each in inputs):
        raise RuntimeError("out of registers")
    return graph.forward


def test_a_compiler_that_fails_on_one_of_several_ranks_is_left_out_by_the_same_command(
    split: Paths, stage: Stage, failure: Failure, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiling, "BACKEND", sometimes)
    monkeypatch.setattr(train, "has_ranks", lambda: True)
    message = failure("train", *FOLD_0, *SETTINGS)
    assert "(out of registers); the model is no longer compiled; the same command continues" in message
    stage("train", *FOLD_0, *SETTINGS)
    assert '"compiled": false' in next(split.runs.glob("*/fold0/trained.json")).read_text()


def test_a_compiler_that_fails_later_is_left_out_then(
    split: Paths, stage: Stage, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiling, "BACKEND", sometimes)
    stage("train", *FOLD_0, *SETTINGS)
    said = capsys.readouterr().out
    assert "note: the compiler failed (out of registers); the model is no longer compiled" in said
    assert '"compiled": false' in next(split.runs.glob("*/fold0/trained.json")).read_text()


def test_a_compiler_that_fails_is_left_out(
    split: Paths, stage: Stage, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(graph: object, inputs: object) -> nn.Module:
        raise RuntimeError("Found a GPU which is too old")

    monkeypatch.setattr(compiling, "BACKEND", broken)
    stage("train", *FOLD_0, *SETTINGS)
    said = capsys.readouterr().out
    assert "the model is not compiled" in said and "too old" in said
    assert '"compiled": false' in next(split.runs.glob("*/fold0/arrangement.json")).read_text()
