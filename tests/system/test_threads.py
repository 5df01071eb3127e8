"""How folds share the cores."""

from __future__ import annotations

import pytest

from pipeline.system.threads import share_cores


@pytest.mark.parametrize(
    ("folds", "cores", "beside", "threads"),
    [
        (1, 2, 1, [2]),
        (5, 1, 1, [1] * 5),
        (5, 2, 2, [1, 1, 1, 1, 2]),
        (4, 2, 2, [1] * 4),
        (5, 4, 4, [1, 1, 1, 1, 4]),
        (5, 5, 5, [1] * 5),
        (5, 16, 5, [3] * 5),
        (2, 16, 2, [8, 8]),
    ],
)
def test_folds_share_the_cores(folds: int, cores: int, beside: int, threads: list[int]) -> None:
    assert share_cores(folds, cores) == (beside, threads)


@pytest.mark.parametrize("cores", range(1, 20))
@pytest.mark.parametrize("folds", range(1, 12))
def test_no_round_asks_for_more_cores_than_there_are(folds: int, cores: int) -> None:
    beside, threads = share_cores(folds, cores)
    assert len(threads) == folds and min(threads) >= 1
    for start in range(0, folds, beside):
        assert sum(threads[start : start + beside]) <= cores
