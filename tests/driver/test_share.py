"""How folds share GPUs and cores."""

from __future__ import annotations

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


def test_a_gpu_trains_several_small_folds_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(share, "gpu_memory", lambda: [24_000])
    monkeypatch.setattr(share, "cores", lambda: 16)
    assert share.share_machine(5, 64, "auto") == (5, [3] * 5)
    assert share.share_machine(5, 224, "auto") == (1, [16] * 5)
    assert share.share_machine(5, 64, "cpu") == share_cores(5, 16)
    monkeypatch.setattr(share, "gpu_memory", lambda: [9_000])
    assert share.share_machine(5, 64, "cuda") == (2, [8] * 5)
