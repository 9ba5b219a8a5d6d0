"""The scores equal torchmetrics' own, and nothing about batches changes them."""

import pytest
import torch
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_calibration_error,
    multiclass_f1_score,
)

from mla_lightning.metrics.evaluation import Evaluation, score_logits


@pytest.mark.parametrize(("num_samples", "num_classes"), [(1, 2), (7, 3), (500, 6), (300, 101)])
@pytest.mark.parametrize("seed", range(3))
def test_scores_equal_the_librarys(num_samples, num_classes, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = 4 * torch.randn(num_samples, num_classes, generator=generator)
    label = torch.randint(num_classes // 2 + 1, (num_samples,), generator=generator)
    scores = score_logits({"other": -logits, "multi": logits}, label)["multi"]
    assert scores["acc"] == pytest.approx(
        multiclass_accuracy(logits, label, num_classes, average="micro").item(), abs=1e-6
    )
    assert scores["f1_macro"] == pytest.approx(
        multiclass_f1_score(logits, label, num_classes, average="macro").item(), abs=1e-6
    )
    assert scores["ece"] == pytest.approx(
        multiclass_calibration_error(logits.softmax(1), label, num_classes, n_bins=15).item(),
        abs=1e-6,
    )


def test_a_worked_example():
    logits = torch.tensor([[0.0, -1e4], [0.0, -1e4], [-1e4, 0.0], [0.0, 0.0]])
    scores = score_logits({"multi": logits}, torch.tensor([0, 1, 1, 0]))["multi"]
    assert scores["acc"] == 0.75
    # Class 0: 2 correct, 3 predicted, 2 labels; class 1: 1 correct, 1 predicted, 2 labels.
    assert scores["f1_macro"] == pytest.approx((4 / 5 + 2 / 3) / 2)
    # Three predictions with confidence 1, two of them correct; one with confidence 0.5, correct.
    assert scores["ece"] == pytest.approx(3 / 4 * (1 - 2 / 3) + 1 / 4 * (1 - 0.5))


def test_a_class_that_neither_occurs_nor_is_told_does_not_count():
    logits = torch.tensor([[1.0, 0.0, -5.0], [0.0, 1.0, -5.0]])
    scores = score_logits({"multi": logits}, torch.tensor([0, 1]))
    assert scores["multi"]["f1_macro"] == 1.0


def test_batches_and_their_order_change_nothing():
    logits, label = torch.randn(50, 4), torch.randint(4, (50,))
    scores = []
    for order, size in ((torch.arange(50), 50), (torch.randperm(50), 7)):
        evaluation = Evaluation(4)
        for rows in order.split(size):
            evaluation.add({"multi": logits[rows]}, label[rows], rows)
        scores.append(evaluation.scores())
    assert scores[0] == scores[1]
