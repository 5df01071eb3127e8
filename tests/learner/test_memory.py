"""What fits the memory of a device: parts of batches, images that stay, and the share of each fold."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from pipeline.learner import memory
from pipeline.learner.memory import Room, bytes_to_keep, in_parts, limit_memory, parts_that_fit
from pipeline.system.errors import FoldwiseError, is_out_of_memory

GPU, GIB = torch.device("cuda", 0), 2**30

#: As torch, cuDNN, cuBLAS and the driver say it, from reports on GitHub.
FACES: list[BaseException] = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 7.79 GiB"),
    torch.OutOfMemoryError(),
    RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
    RuntimeError("GET was unable to find an engine to execute this computation"),
    RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB)"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory"),
    MemoryError(),
]


@pytest.mark.parametrize("face", FACES, ids=str)
def test_out_of_memory_has_more_faces_than_one(face: BaseException) -> None:
    assert is_out_of_memory(face)
    tried = []

    def attempt(parts: int) -> None:
        tried.append(parts)
        if parts < 4 and isinstance(face, RuntimeError):
            raise face

    assert parts_that_fit(attempt, 1, 16) == (4 if isinstance(face, RuntimeError) else 1)
    assert tried == ([1, 2, 4] if isinstance(face, RuntimeError) else [1])


def test_other_errors_are_not_taken_for_it() -> None:
    others = [RuntimeError("shape '[2]' is invalid"), ValueError("out of memory"), RuntimeError("CUDA error: launch")]
    assert not any(map(is_out_of_memory, others))

    def attempt(parts: int) -> None:
        raise others[0]

    with pytest.raises(RuntimeError, match="is invalid"):
        parts_that_fit(attempt, 1, 16)
    with pytest.raises(RuntimeError, match="is invalid"):
        in_parts(attempt, torch.zeros(4))  # type: ignore[arg-type]


def test_a_batch_goes_in_halves_that_fit() -> None:
    sizes = []

    def function(batch: torch.Tensor) -> torch.Tensor:
        if len(batch) > 3:
            raise RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")
        sizes.append(len(batch))
        return 2 * batch

    assert torch.equal(in_parts(function, torch.arange(10.0)), 2 * torch.arange(10.0))
    assert sizes == [3, 2, 3, 2]

    def never(batch: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError

    for attempt in (lambda: in_parts(never, torch.zeros(4)), lambda: parts_that_fit(never, 1, 4)):  # type: ignore[arg-type]
        with pytest.raises(FoldwiseError, match="too small for one image at a time"):
            attempt()


class FakeGpu:
    """A GPU of 80 GiB: what its trial step took, what is free, and the limits that were set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, free: float, trial: float) -> None:
        self.calls: list[str] = []
        self.limits: list[float] = []

        def ask(device: torch.device) -> tuple[int, int]:
            self.calls.append("asked")
            return int(free * GIB), 80 * GIB

        gpu = torch.cuda
        monkeypatch.setattr(gpu, "get_device_properties", lambda _: SimpleNamespace(total_memory=80 * GIB))
        monkeypatch.setattr(gpu, "empty_cache", lambda: self.calls.append("emptied"))
        monkeypatch.setattr(gpu, "mem_get_info", ask)
        monkeypatch.setattr(gpu, "max_memory_reserved", lambda _: int(trial * GIB))
        monkeypatch.setattr(gpu, "set_per_process_memory_fraction", lambda share, _: self.limits.append(share))


def test_pictures_that_stay_on_the_device_are_counted_after_the_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = FakeGpu(monkeypatch, free=78, trial=10)
    assert bytes_to_keep(GPU) == 34 * GIB
    assert gpu.calls == ["emptied", "asked"]
    limit_memory(GPU)
    assert not gpu.limits  # one fold may use all of it
    FakeGpu(monkeypatch, free=5, trial=10)  # another program has the rest
    assert bytes_to_keep(GPU) == 0
    assert bytes_to_keep(torch.device("cpu")) == memory.MAX_KEPT_BYTES


def test_folds_side_by_side_get_a_share_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that what fits is the same for a fold that starts when the others hold little and when they hold much."""
    monkeypatch.setenv("FOLDWISE_BESIDE", "5")
    for free in (78, 20):
        gpu = FakeGpu(monkeypatch, free=free, trial=2)
        limit_memory(GPU)
        [share] = gpu.limits
        assert 0.18 < share < 0.2
        assert bytes_to_keep(GPU) == pytest.approx((share * 80 - 2) / 2 * GIB)


def test_a_room_takes_what_fits() -> None:
    room = Room(100)
    assert [room.takes(size) for size in (60, 50, 40, 1)] == [True, False, True, False]
