"""The scores equal torchmetrics' own, and nothing about batches changes them."""

import math

import pytest
import torch
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_calibration_error,
    multiclass_f1_score,
)

from mla_lightning.metrics.evaluation import Evaluation, score_logits
from mla_lightning.metrics.outcome import Outcome


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


def test_samples_are_sorted_by_number_with_all_that_belongs_to_them():
    index = torch.tensor([3, 0, 2, 1])
    values = torch.tensor([[3.0, 0.0], [0.0, 1.0], [2.0, 0.0], [0.0, 1.5]])
    label = torch.tensor([0, 1, 1, 0])  # right, right, wrong, wrong
    present = torch.tensor([True, False, False, True])
    sorted_rows = index.argsort()
    for rows in (torch.arange(4), sorted_rows):
        evaluation = Evaluation(2)
        for half in rows.split(2):
            evaluation.add({"a": values[half]}, label[half], index[half], {"a": present[half]})
        logits, labels, numbers = evaluation.arrays()
        assert numbers.tolist() == [0, 1, 2, 3]
        assert labels.tolist() == [1, 0, 1, 0]
        assert torch.equal(logits["a"], values[sorted_rows])
        assert evaluation.scores()["a"]["acc"] == 0.5  # of samples 3 and 1, the first is right
    evaluation.reset()
    evaluation.add({"a": values}, label, index)
    assert evaluation.scores()["a"]["acc"] == 0.5  # of all four, two are right


def test_a_modality_is_scored_on_the_samples_that_have_it():
    logits = {"a": torch.tensor([[1.0, 0.0]] * 4), "b": torch.zeros(4, 2), "c": torch.eye(4)[:, :2]}
    present = {"a": torch.tensor([True, True, False, False]), "b": torch.zeros(4, dtype=torch.bool)}
    scores = score_logits(logits, torch.tensor([0, 1, 1, 1]), present)
    assert scores["a"]["acc"] == 0.5
    assert all(math.isnan(value) for value in scores["b"].values())
    assert scores["c"]["acc"] == 0.5


def test_probabilities_are_the_softmax_over_classes():
    outcome = Outcome(torch.tensor([[0.0, 3.0], [1.0, 1.0]]).log(), torch.tensor([1, 0]))
    expected = torch.tensor([[0.0, 1.0], [0.5, 0.5]])
    torch.testing.assert_close(outcome.probability, expected)
    assert outcome.is_correct.tolist() == [True, True]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_collected_logits_are_in_single_precision(dtype):
    evaluation, logits = Evaluation(2), torch.tensor([[0.5, -2.0], [1.25, 3.0]])
    evaluation.add({"multi": logits.to(dtype)}, torch.tensor([0, 1]), torch.tensor([0, 1]))
    collected = evaluation.arrays()[0]["multi"]
    assert collected.dtype == torch.float32
    assert torch.equal(collected, logits)
