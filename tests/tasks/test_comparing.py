"""What is a gain and what is noise, against simulated truth."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.tasks.classification import Classification
from pipeline.tasks.comparing import compare, corrected_for_choice, error_of_gain, variance_between_seeds
from tests.benchmarks.noise import compared, error_of_best, simulate

TASK = Classification(["cat", "dog"])


def test_the_error_of_a_gain_is_that_of_the_paired_differences() -> None:
    """Of a mean over rows it has a closed form."""
    runs = simulate(np.random.default_rng(0), 900, [1.0, 2.0], 0)
    labels, (first, second), units = runs.seen()
    right = [(each.argmax(axis=1) == labels).astype(float) for each in (first, second)]
    expected = np.std(right[0] - right[1], ddof=1) / np.sqrt(900)
    assert error_of_gain(TASK.metric("accuracy"), labels, first, second, units) == pytest.approx(expected, rel=0.15)
    repeated = [np.repeat(each, 10, axis=0) for each in (labels, first, second, units)]
    of_groups = error_of_gain(TASK.metric("accuracy"), *repeated)  # ten copies of a row are no news
    assert of_groups == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize("name", ["accuracy", "log_loss"])
def test_two_seeds_are_noise_and_a_planted_gain_is_found(name: str) -> None:
    """The short form of tests/benchmarks/noise.py."""
    metric = TASK.metric(name)
    same = [compared(metric, np.random.default_rng([2, trial]), 300, 0) for trial in range(40)]
    better = [compared(metric, np.random.default_rng([3, trial]), 300, 4) for trial in range(25)]
    assert np.mean([each.is_real for each in same]) <= 0.125
    assert np.mean([each.low > 0 for each in better]) >= 0.88


def test_the_best_of_twenty_equal_runs_is_corrected_for_its_luck() -> None:
    metric = TASK.metric("log_loss")
    found = np.array([error_of_best(metric, np.random.default_rng([1, trial]), 300) for trial in range(12)])
    corrected, naive, error = found.mean(axis=0)
    assert naive > error > 3 * abs(corrected)


def test_one_clear_winner_has_no_luck_to_correct() -> None:
    runs = simulate(np.random.default_rng(5), 800, [0.1, 6.0, 6.0], 0)
    labels, values, units = runs.seen()
    metric = TASK.metric("log_loss")
    assert corrected_for_choice(metric, labels, values, units) == pytest.approx(metric(labels, values[0]), abs=0.02)


def test_seeds_whose_skill_differs_widen_the_interval_and_equal_ones_do_not() -> None:
    metric, rng = TASK.metric("log_loss"), np.random.default_rng(6)
    equal, unequal = simulate(rng, 3000, [1.5] * 4, 0), simulate(rng, 3000, [0.5, 1.0, 2.0, 3.0], 0)
    variances = []
    for runs in (equal, unequal):
        labels, values, units = runs.seen()
        variances.append(variance_between_seeds(metric, labels, values, units))
    assert variances[0] < 0.01**2 < 0.05**2 < variances[1]
    labels, values, units = equal.seen()
    narrow = compare(metric, labels, values[0], values[1], units)
    wide = compare(metric, labels, values[0], values[1], units, variances[1])
    assert wide.high - wide.low > 3 * (narrow.high - narrow.low) and narrow.seed_error is None
