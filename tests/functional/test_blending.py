"""Weights of losses by generalisation per squared overfitting."""

import pytest
import torch

from mla_lightning.functional import blending_weights


def doubles(*values):
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize(
    ("before", "train", "held_out", "expected"),
    [
        ((1.8, 1.85), (0.9, 1.2, 0.5), (1.3, 1.5, 1.25), (0.396825, 0.494949, 0.108225)),
        ((1.8, 1.85), (0.9, 1.2, 0.5), (1.3, 1.9, 1.25), (0.785714, 0, 0.214286)),
        (
            *((1.1, 1.2), (0.7, 0.9, 1.0, 0.4), (0.9, 1.05, 1.15, 0.8)),
            (0.262136, 0.524272, 0.174757, 0.038835),
        ),
    ],
)
def test_weights_are_those_computed_by_hand(before, train, held_out, expected):
    first = [doubles(*[value] * len(train)) for value in before]
    weights = blending_weights(first[0], doubles(*train), first[1], doubles(*held_out))
    assert weights.tolist() == pytest.approx(expected, abs=1e-6)
    assert weights.sum() == pytest.approx(1)


def test_a_loss_that_loses_counts_as_one_that_gains_nothing():
    zeros = doubles(0, 0, 0)
    weights = blending_weights(zeros + 1, zeros + 0.5, zeros + 1, doubles(1.0, 1.5, 2.0))
    assert weights.tolist() == pytest.approx([1 / 3] * 3)


def test_without_any_overfitting_the_constant_keeps_weights_finite():
    weights = blending_weights(doubles(1, 1), doubles(0.5, 0.8), doubles(1, 1), doubles(0.5, 0.8))
    assert weights.tolist() == pytest.approx([5 / 7, 2 / 7])
