"""Losses against torch's and torchvision's, and by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from pipeline.tasks.classification import Classification
from pipeline.tasks.losses import BinaryLoss, FocalLoss, MeanGradeLoss, NumberLoss
from pipeline.tasks.multilabel import Multilabel
from pipeline.tasks.objective import Objective
from pipeline.tasks.ordinal import Ordinal

torch.manual_seed(0)
LOGITS, SOFT = torch.randn(7, 4), torch.rand(7, 4)
SOFT = SOFT / SOFT.sum(dim=1, keepdim=True)


def test_focal_loss_without_focus_is_cross_entropy_for_soft_targets() -> None:
    expected = F.cross_entropy(LOGITS, SOFT, label_smoothing=0.1)
    torch.testing.assert_close(FocalLoss(0, None, 0.1)(LOGITS, SOFT), expected)
    weight = torch.tensor([1.0, 2, 3, 4])
    torch.testing.assert_close(FocalLoss(0, weight, 0)(LOGITS, SOFT), F.cross_entropy(LOGITS, SOFT, weight=weight))


def test_focal_loss_by_hand() -> None:
    probability = LOGITS.softmax(1)[:, 2]
    expected = -((1 - probability) ** 2 * probability.log()).mean()
    torch.testing.assert_close(FocalLoss(2, None, 0)(LOGITS, torch.eye(4)[[2] * 7]), expected)


def test_binary_losses_are_torchs_and_torchvisions() -> None:
    hard = (SOFT > 0.25).float()
    expected = F.binary_cross_entropy_with_logits(LOGITS, hard * 0.9 + 0.05)
    torch.testing.assert_close(BinaryLoss(None, 0.1)(LOGITS, hard), expected)
    focal = sigmoid_focal_loss(LOGITS, hard, alpha=-1, gamma=2, reduction="mean")
    torch.testing.assert_close(BinaryLoss(None, 0, gamma=2)(LOGITS, hard), focal)


@pytest.mark.parametrize(("name", "function"), [("mse", F.mse_loss), ("l1", F.l1_loss), ("huber", F.huber_loss)])
def test_losses_of_numbers_are_in_standard_deviations(name: str, function: object) -> None:
    targets = torch.randn(7, 4) * 10 + 50
    loss = NumberLoss(name, np.full(4, 50), np.full(4, 10))(LOGITS, targets)
    torch.testing.assert_close(loss, function(LOGITS, (targets - 50) / 10))  # type: ignore[operator]


def test_the_loss_of_the_mean_grade() -> None:
    sure = torch.tensor([[0.0, 0, 50, 0], [50, 0, 0, 0]])
    loss = MeanGradeLoss("mse", np.arange(4.0))(sure, torch.eye(4)[[3, 0]])
    assert loss.item() == pytest.approx((1 + 0) / 2)


def test_soft_grades_lie_around_the_true_grade() -> None:
    grades = Ordinal(["0", "1", "2"])
    targets = grades.targets(pd.Series(["1"]))
    loss = grades.loss(targets, Objective(soft_grades=1.0))
    soft = torch.tensor(targets) @ loss.spread  # type: ignore[operator]
    near = np.exp(-0.5)
    assert soft[0].tolist() == pytest.approx([near / (1 + 2 * near), 1 / (1 + 2 * near), near / (1 + 2 * near)])


@pytest.mark.parametrize("gamma", [0.5, 2])
def test_the_gradients_of_focal_losses_are_finite_for_sure_predictions(gamma: float) -> None:
    for loss in (FocalLoss(gamma, None, 0), BinaryLoss(None, 0, gamma)):
        logits = torch.tensor([[60.0, -120, 0]], requires_grad=True)
        loss(logits, torch.tensor([[1.0, 0, 0]])).backward()
        assert logits.grad is not None and logits.grad.isfinite().all()


@pytest.mark.parametrize("name", ["cross_entropy", "focal", "bce"])
def test_every_loss_of_classes_learns(name: str) -> None:
    """A linear model on separable points."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 90)
    inputs = torch.tensor(np.eye(3)[labels] + rng.normal(0, 0.2, (90, 3)), dtype=torch.float32)
    task = Classification(["a", "b", "c"])
    targets = np.eye(3, dtype=np.float32)[labels]
    objective = Objective(loss=name)  # type: ignore[arg-type]
    fitted, loss, layer = task.fitted(targets, objective), task.loss(targets, objective), torch.nn.Linear(3, 3)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)
    for _ in range(60):
        optimizer.zero_grad()
        loss(layer(inputs), torch.tensor(targets)).backward()
        optimizer.step()
    probs = fitted.predictions(layer(inputs)).detach().numpy()
    assert (probs.argmax(1) == labels).mean() > 0.95
    np.testing.assert_allclose(probs.sum(1), 1, rtol=1e-5)
    assert Multilabel(["a"]).predictions(torch.zeros(1, 1)).item() == 0.5
