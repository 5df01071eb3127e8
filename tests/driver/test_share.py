"""How folds share GPUs and cores."""

from __future__ import annotations

import subprocess

import pytest

from pipeline.driver import share
from pipeline.system.errors import FoldwiseError
from pipeline.system.threads import share_cores


@pytest.mark.parametrize(
    ("gpus", "cpus", "cluster", "said"),
    [
        ("", "", "", 1), ("4", "", "", 4), ("0.5", "", "auto", 1), ("4", "8", "auto", 1), ("0", "1", "auto", 1),
        ("0.5", "", "", "not a number of GPUs"), ("0", "", "", "not a number"), ("x", "", "auto", "not a number"),
        ("1.5", "", "auto", "not a number"), ("-1", "", "", "not a number"), ("6", "", "", "too many: .* has 4 GPUs"),
        ("", "2", "", "needs CLUSTER"), ("", "0", "auto", "a whole number"), ("", "x", "auto", "a whole number"),
    ],
)  # fmt: skip
def test_gpus_are_ranks_but_on_a_cluster(
    gpus: str, cpus: str, cluster: str, said: int | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(share, "gpu_memory", lambda: [24_000] * 4)
    if isinstance(said, int):
        assert share.ranks_of(gpus, cpus, cluster, "auto") == said
    else:
        with pytest.raises(FoldwiseError, match=said):
            share.ranks_of(gpus, cpus, cluster, "auto")


def test_without_gpus_the_cores_are_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(share, "cores", lambda: 3)
    assert share.ranks_of("3", "", "", "cpu") == 3
    with pytest.raises(FoldwiseError, match="no GPU and 3 cores"):
        share.ranks_of("4", "", "", "cpu")


@pytest.mark.parametrize(
    ("visible", "memory"),
    [
        (None, [80, 40, 24]), ("", []), ("-1", []), ("2", [24]), ("1,0", [40, 80]), (" 0, 2", [80, 24]),
        ("0,9,1", [80]), ("GPU-bb", [40]), ("GPU-", []), ("MIG-1234", [0]), ("none", []),
    ],
)  # fmt: skip
def test_cuda_visible_devices_is_obeyed_by_the_plan(
    visible: str | None, memory: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = "GPU-aa1, 80\nGPU-bb2, 40\nGPU-cc3, 24\n"
    share.installed_gpus.cache_clear()
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 0, stdout=answer))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert share.gpu_memory() == memory
    share.installed_gpus.cache_clear()


def test_a_named_gpu_is_asked_for_its_own_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(share, "gpu_memory", lambda: [9_000, 24_000])
    monkeypatch.setattr(share, "cores", lambda: 16)
    assert share.share_machine(5, 64, "cuda:0")[0] == 2
    assert share.share_machine(5, 64, "cuda:1")[0] == 5
    assert share.share_machine(5, 64, "cuda:7")[0] == 1  # the stage says that there is none


def test_a_gpu_trains_several_small_folds_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(share, "gpu_memory", lambda: [24_000])
    monkeypatch.setattr(share, "cores", lambda: 16)
    assert share.share_machine(5, 64, "auto") == (5, [3] * 5)
    assert share.share_machine(5, 224, "auto") == (1, [16] * 5)
    assert share.share_machine(5, 64, "cpu") == share_cores(5, 16)
    monkeypatch.setattr(share, "gpu_memory", lambda: [9_000])
    assert share.share_machine(5, 64, "cuda") == (2, [8] * 5)
