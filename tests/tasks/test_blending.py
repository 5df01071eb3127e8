"""Ways to blend, against references and brute force."""

from __future__ import annotations

from itertools import combinations_with_replacement

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import gmean
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from pipeline.tasks import blending, postprocessing
from pipeline.tasks.blending import WAYS, Elsewhere, Scored, select_greedily, stack_runs, ways_for
from pipeline.tasks.classification import Classification
from pipeline.tasks.multilabel import Multilabel
from pipeline.tasks.nesting import nested_values
from pipeline.tasks.regression import Regression
from pipeline.tasks.task import Task

TWO, THREE = Classification(["cat", "dog"]), Classification(["a", "b", "c"])


def scored(task: Task, name: str, noises: list[float], rows: int = 400, seed: int = 0) -> Scored:
    """Runs that see the labels through this much noise; none of them sees anything with infinite noise."""
    rng = np.random.default_rng(seed)
    number = len(task.target_names)
    targets = np.eye(number, dtype=np.float32)[rng.integers(0, number, rows)]
    if task.kind == "multilabel":
        targets = (rng.random((rows, number)) < 0.3).astype(np.float32)
    seen = [2.0 * targets * np.isfinite(noise) + (noise if np.isfinite(noise) else 1) * rng.normal(size=targets.shape)
            for noise in noises]  # fmt: skip
    return Scored(task, task.metric(name), targets, np.stack([task.chances(each - 1) for each in seen]))


def test_means_are_those_of_numpy_and_scipy() -> None:
    given = scored(THREE, "log_loss", [1.0, 2.0, 1.5])
    blends = {name: WAYS[name](given).blend(given.stack) for name in ("mean", "geometric mean", "logit mean")}
    np.testing.assert_allclose(blends["mean"], given.stack.mean(axis=0))
    geometric = gmean(given.stack, axis=0)
    np.testing.assert_allclose(blends["geometric mean"], geometric / geometric.sum(axis=1, keepdims=True))
    assert blends["logit mean"].sum(axis=1) == pytest.approx(np.ones(400))
    two = scored(TWO, "log_loss", [1.0, 2.0])
    of_two = [WAYS[name](two).blend(two.stack) for name in ("geometric mean", "logit mean")]
    np.testing.assert_allclose(of_two[0], of_two[1])  # with two classes they are the same


def test_the_mean_rank_orders_rows_as_ranks_do_and_keeps_the_scale() -> None:
    """One run says 0.50 to 0.51, another 0 to 1: by ranks they count the same."""
    given = scored(TWO, "roc_auc", [1.0, 1.0], rows=900)
    dog = np.stack([0.5 + given.stack[0][:, 1] / 100, given.stack[1][:, 1]])
    stack = np.stack([1 - dog, dog], axis=2)
    narrow = Scored(TWO, given.metric, given.targets, stack)
    blended = WAYS["rank mean"](narrow).blend(stack)
    ranks = dog.argsort(axis=1).argsort(axis=1).mean(axis=0)
    truth = given.targets.argmax(axis=1)
    assert roc_auc_score(truth, blended[:, 1]) == pytest.approx(roc_auc_score(truth, ranks), abs=0.003)
    assert np.median(blended[:, 1]) == pytest.approx(np.median(dog, axis=1).mean(), abs=0.05)
    assert roc_auc_score(truth, blended[:, 1]) > roc_auc_score(truth, dog.mean(axis=0)) + 0.01


def test_the_search_finds_the_weights_of_a_convex_optimizer() -> None:
    given = scored(THREE, "log_loss", [1.0, 3.0, 1.3, 2.0], rows=800)
    learnt = WAYS["weights"](given)
    reference = minimize(
        lambda weights: -given.quality(np.tensordot(weights, given.stack, 1)), np.full(4, 0.25), method="SLSQP",
        bounds=[(0, 1)] * 4, constraints={"type": "eq", "fun": lambda weights: weights.sum() - 1},
    )  # fmt: skip
    assert learnt.weights is not None and sum(learnt.weights) == pytest.approx(1) and min(learnt.weights) >= 0
    assert -given.quality(learnt.blend(given.stack)) <= reference.fun + 2e-4
    assert learnt.weights == pytest.approx(reference.x, abs=0.06)


def test_greedy_selection_is_as_good_as_brute_force(monkeypatch: pytest.MonkeyPatch) -> None:
    """All multisets of up to six picks of three runs."""
    monkeypatch.setattr(blending, "PICKS", 6)
    given = scored(THREE, "log_loss", [1.0, 1.4, 2.5], rows=300)
    picks = [chosen for size in range(1, 7) for chosen in combinations_with_replacement(range(3), size)]
    best = max(given.quality(given.stack[list(chosen)].mean(axis=0)) for chosen in picks)
    assert given.quality(select_greedily(given).blend(given.stack)) == pytest.approx(best, abs=1e-9)


def test_stacking_is_logistic_regression() -> None:
    """With two classes and the log-odds of each run, scikit-learn's without a penalty."""
    given = scored(TWO, "log_loss", [1.0, 2.0, 3.0], rows=3000)
    found = stack_runs(given).blend(given.stack)[:, 1]
    odds = np.log(given.stack[:, :, 1] / given.stack[:, :, 0]).T
    truth = given.targets.argmax(axis=1)
    reference = LogisticRegression(C=1e6).fit(odds, truth).predict_proba(odds)[:, 1]
    np.testing.assert_allclose(found, reference, atol=0.01)


def test_numbers_are_stacked_by_least_squares() -> None:
    rng, task = np.random.default_rng(1), Regression(["weight"])
    truth = rng.normal(50, 10, (2000, 1))
    stack = np.stack([0.5 * truth + rng.normal(0, 3, truth.shape), truth + 20 + rng.normal(0, 6, truth.shape)])
    given = Scored(task, task.metric("rmse"), truth, stack)
    columns = np.column_stack([stack[0], stack[1], np.ones(2000)])
    reference = columns @ np.linalg.lstsq(columns, truth, rcond=None)[0]
    np.testing.assert_allclose(stack_runs(given).blend(stack), reference, atol=0.3)
    assert "logit mean" not in ways_for(task, stack) and "geometric mean" not in ways_for(task, -stack)


def test_tags_can_be_blended_in_every_way() -> None:
    task = Multilabel(["x", "y", "z"])
    given = scored(task, "log_loss", [1.0, 2.0])
    for name, way in ways_for(task, given.stack).items():
        blended = way(given).blend(given.stack)
        assert blended.shape == (400, 3) and (blended >= 0).all() and (blended <= 1).all(), name
        assert given.quality(blended) > given.quality(given.stack[1]), name


def test_thirty_noise_runs_and_a_real_one_promise_no_more_than_the_real_one() -> None:
    """Honest scores of weights and greedy selection, which on their own rows look better than the real run is."""
    folds, units = np.arange(300) % 5, np.arange(300)
    gains: dict[str, list[float]] = {name: [] for name in ("weights", "greedy selection", "stacking")}
    own_gains = []
    for seed in range(3):
        given = scored(TWO, "accuracy", [1.6] + [np.inf] * 30, rows=300, seed=seed)
        real = given.quality(given.stack[0])
        for name, found in gains.items():
            elsewhere = Elsewhere(WAYS[name], given)
            values = nested_values(TWO, given.metric, given.targets, elsewhere, folds, units)
            found.append(given.metric(given.truth, values) - real)
            own_gains.append(given.quality(elsewhere(np.ones(300, bool))) - real)
    assert max(np.mean(found) for found in gains.values()) <= 0.005
    assert np.mean(own_gains) > 0.01


def test_what_a_fold_is_blended_by_does_not_depend_on_its_own_labels() -> None:
    given = scored(THREE, "log_loss", [1.0, 2.0, 1.5])
    parts = np.arange(400) % 4
    other = np.where((parts == 1)[:, None], np.roll(given.targets, 1, axis=1), given.targets)
    for name, way in WAYS.items():
        before = Elsewhere(way, given).out_of_fold(parts)
        after = Elsewhere(way, Scored(THREE, given.metric, other, given.stack)).out_of_fold(parts)
        assert (before[parts == 1] == after[parts == 1]).all(), name
        if name in ("weights", "greedy selection", "stacking"):
            assert (before[parts != 1] != after[parts != 1]).any(), name


def test_many_rows_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postprocessing, "MAX_VALUES", 300)
    monkeypatch.setattr(postprocessing, "FEWEST_ROWS", 50)
    given = scored(THREE, "log_loss", [1.0, 3.0], rows=400)
    assert len(given.sample().targets) == 100 and given.sample().stack.shape == (2, 100, 3)
    weights = WAYS["weights"](given).weights
    assert weights is not None and weights[0] > 0.6
