"""Contributions, copies and shares against numbers that were computed independently."""

import pytest
import torch

from mla_lightning.functional import contributions, copies_of, repeated_shares, subsets

A, V, AV = frozenset({0}), frozenset({1}), frozenset({0, 1})


def of_right(right, num_modalities):
    """Return the contributions for one sample, by the subsets that are right about it."""
    of = {s: torch.tensor([s in right]) for s in subsets(num_modalities)[1:]}
    return contributions(of)[:, 0].tolist()


@pytest.mark.parametrize(
    ("right", "expected"),
    [
        ({A, AV}, (1.5, 0.5)),
        ({AV}, (1, 1)),
        ({A, V, AV}, (1, 1)),
        ({A}, (0.5, -0.5)),
        (set(), (0, 0)),
    ],
)
def test_contributions_of_two(right, expected):
    assert of_right(right, 2) == pytest.approx(expected)


def test_contributions_of_three():
    first = of_right({s for s in subsets(3) if 0 in s}, 3)
    assert first == pytest.approx((2, 0.5, 0.5))
    assert copies_of(torch.tensor(first)).tolist() == [0, 1, 1]
    together = of_right({frozenset({0, 1, 2})}, 3)
    assert together == pytest.approx((1, 1, 1))
    assert copies_of(torch.tensor(together)).tolist() == [0, 0, 0]
    everyone = of_right({*subsets(3)}, 3)
    assert copies_of(torch.tensor(everyone)).tolist() == [0, 0, 0]


def test_copies_by_contribution():
    assert copies_of(torch.tensor([-0.5, 0.0, 0.5, 1.0, 1.5])).tolist() == [3, 2, 1, 0, 0]
    assert copies_of(torch.tensor([-0.1, 0.4, 1.0])).tolist() == [2, 1, 0]
    assert copies_of(torch.tensor([-0.11, 0.39, 0.99])).tolist() == [3, 2, 1]
    assert copies_of(torch.zeros(2, 3)).shape == (2, 3)
    assert copies_of(torch.tensor([1 - 1e-7])).tolist() == [0]  # 1/3 + 1/3 + 1/3


def test_shares_by_gap_to_the_best():
    shares = repeated_shares(torch.tensor([0.9, 0.4], dtype=torch.float64), alpha=0.5)
    assert shares.tolist() == pytest.approx([0, 0.166667], abs=5e-7)
    three = repeated_shares(torch.tensor([0.4, 1.0, 0.7]), alpha=1.0)
    assert three.tolist() == pytest.approx([0.4, 0.0, 0.2])
