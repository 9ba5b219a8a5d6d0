"""Shapley values against numbers computed by hand, and against all orders of the modalities."""

from itertools import permutations

import pytest
import torch

from mla_lightning.functional import shapley_values, subsets


def by_key(**values):
    """Map keys such as ``_`` (the empty set) and ``_02`` to sets of positions."""
    return {frozenset(map(int, key[1:])): torch.tensor(value) for key, value in values.items()}


def test_subsets_begin_with_none_and_end_with_all():
    assert subsets(0) == [frozenset()]
    found = subsets(4)
    assert len(found) == len(set(found)) == 16
    assert found[0] == frozenset()
    assert found[-1] == frozenset(range(4))


def test_logits_of_two_modalities():
    values = by_key(_=[0.0, 0.0], _0=[1.0, 0.0], _1=[0.0, 1.0], _01=[2.0, 0.5])
    torch.testing.assert_close(shapley_values(values), torch.tensor([[1.5, -0.25], [0.5, 0.75]]))


def test_logits_of_three_modalities():
    values = by_key(
        _=[0.0, 0.0],
        _0=[1.0, 0.0],
        _1=[0.0, 1.0],
        _2=[0.5, 0.5],
        _01=[2.0, 1.0],
        _02=[1.0, 1.0],
        _12=[0.0, 2.0],
        _012=[3.0, 2.0],
    )
    expected = torch.tensor([[1.75, 0.083333], [0.75, 1.083333], [0.5, 0.833333]])
    torch.testing.assert_close(shapley_values(values), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("right", "expected"),
    [
        ([{0}, {0, 1}], (1.5, 0.5)),
        ([{0, 1}], (1, 1)),
        ([{0}, {1}, {0, 1}], (1, 1)),
        ([{0}], (0.5, -0.5)),
        ([], (0, 0)),
        ([{0}, {0, 1}, {0, 2}, {0, 1, 2}], (2, 0.5, 0.5)),
        ([{0, 1, 2}], (1, 1, 1)),
    ],
)
def test_number_of_modalities_of_a_right_answer(right, expected):
    """The value of a subset is its size if its answer is right, and 0 otherwise."""
    values = {
        s: torch.tensor([float(len(s)) if set(s) in right else 0.0]) for s in subsets(len(expected))
    }
    assert shapley_values(values).squeeze(1).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("num_modalities", [1, 2, 3, 4])
def test_the_mean_gain_over_all_orders(num_modalities):
    rng = torch.Generator().manual_seed(num_modalities)
    values = {
        s: torch.randn(3, 2, generator=rng, dtype=torch.float64) for s in subsets(num_modalities)
    }
    total = torch.zeros(num_modalities, 3, 2, dtype=torch.float64)
    orders = list(permutations(range(num_modalities)))
    for order in orders:
        before: frozenset[int] = frozenset()
        for m in order:
            total[m] += (values[before | {m}] - values[before]) / len(orders)
            before |= {m}
    found = shapley_values(values)
    torch.testing.assert_close(found, total, rtol=0, atol=1e-12)
    everything = values[frozenset(range(num_modalities))] - values[frozenset()]
    torch.testing.assert_close(found.sum(dim=0), everything, rtol=0, atol=1e-12)


def test_gradients_pass_through():
    values = {s: torch.ones(2, requires_grad=True) for s in subsets(2)}
    shapley_values(values)[0].sum().backward()
    found = [values[s].grad.tolist() for s in subsets(2)]
    assert found == [[-0.5, -0.5], [0.5, 0.5], [-0.5, -0.5], [0.5, 0.5]]


def test_half_precision_is_added_in_single():
    values = {s: torch.tensor([1.0 + len(s)]).half() for s in subsets(3)}
    assert shapley_values(values).dtype == torch.float32


def test_a_subset_without_value_is_an_error():
    values = {s: torch.zeros(1) for s in subsets(2) if s}
    with pytest.raises(ValueError, match=r"without \[\[\]\]"):
        shapley_values(values)
    with pytest.raises(ValueError, match=r"without \[\[1\], \[0, 1\]\]"):
        shapley_values({frozenset(s): torch.zeros(1) for s in ([], [0], [2])})
    with pytest.raises(ValueError, match="0 positions"):
        shapley_values({frozenset(): torch.zeros(1)})
