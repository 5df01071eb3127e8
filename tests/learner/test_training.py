"""The state of a training: what it keeps of an epoch, and how much."""

from __future__ import annotations

import copy
import io

import torch

from pipeline.learner.training import MAX_LOGITS, Training, rows_to_score
from tests.learner.networks import CountedOperations, network
from tests.trainings import tiny_training


def test_the_logits_of_an_epoch_take_a_megabyte_at_most() -> None:
    scored = rows_to_score(1_000_000, 1000, seed=0)
    assert scored.shape == (1_000_000,) and int(scored.sum()) * 1000 <= MAX_LOGITS and scored.any()
    assert rows_to_score(1000, 10, seed=0).all()  # all rows, if they are few
    assert torch.equal(scored, rows_to_score(1_000_000, 1000, seed=0))
    assert not torch.equal(scored, rows_to_score(1_000_000, 1000, seed=1))
    assert int(rows_to_score(5, 10 * MAX_LOGITS, seed=0).sum()) == 1


def stepped(scored: torch.Tensor) -> tuple[Training, torch.Tensor]:
    """A training after two steps over ten rows, and the logits of all rows in the order of the steps."""
    training = tiny_training(scored=scored)
    training.end_epoch()
    logits = torch.arange(20.0).view(10, 2)
    rows = torch.tensor([3, 1, 4, 0, 9, 2, 6, 5, 8, 7])
    training.add(torch.tensor(0.5), logits[:5], rows[:5])
    training.add(torch.tensor(0.25), logits[5:], rows[5:])
    return training, logits


def test_only_scored_rows_are_kept_and_come_back_from_a_checkpoint() -> None:
    scored = torch.zeros(10, dtype=torch.bool)
    scored[[1, 2, 9]] = True
    training, logits = stepped(scored)
    kept, rows = training.scored_logits()
    assert rows.tolist() == [1, 9, 2] and torch.equal(kept, logits[[1, 4, 5]])
    file = io.BytesIO()
    training.save_trainer(file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    assert len(saved["logits"]) == 3
    other = tiny_training(seed=1, scored=scored)
    import safetensors.torch

    weights = {"module": safetensors.torch.save(training.module.state_dict())}
    other.restore(weights, saved, torch.device("cpu"))
    again, rows_again = other.scored_logits()
    assert torch.equal(again, kept) and torch.equal(rows_again, rows) and len(other.losses) == 2


def test_a_checkpoint_of_an_older_version_holds_the_logits_of_all_rows() -> None:
    whole, _ = stepped(torch.ones(10, dtype=torch.bool))
    file = io.BytesIO()
    whole.save_trainer(file)
    file.seek(0)
    scored = torch.zeros(10, dtype=torch.bool)
    scored[[1, 2, 9]] = True
    training, _ = stepped(scored)
    expected = training.scored_logits()[0]
    import safetensors.torch

    weights = {"module": safetensors.torch.save(whole.module.state_dict())}
    training.restore(weights, torch.load(file, weights_only=True), torch.device("cpu"))
    assert torch.equal(training.scored_logits()[0], expected)


def test_looking_for_nan_takes_few_operations() -> None:
    """A few for all tensors together; one by one, ResNet-18 with a moving average took thousands."""
    module = network("resnet18", 10).module
    training = Training(
        module, copy.deepcopy(module), torch.optim.SGD(module.parameters()), torch.amp.GradScaler("cpu", enabled=False),
        torch.ones(1, dtype=torch.bool),
    )  # fmt: skip
    with CountedOperations() as counted:
        assert training.weights_are_finite()
    assert counted.number < 20
    for value in (float("nan"), float("inf"), float("-inf")):
        with torch.no_grad():
            next(training.kept.parameters()).view(-1)[7] = value
        assert not training.weights_are_finite()
