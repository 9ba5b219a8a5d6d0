"""Shapley values and who is right."""

import itertools

import pytest
import torch

from mla_lightning.metrics.contribution import agreement, shapley_values, subsets


def test_shapley_values_are_those_of_the_oracle():
    accuracy = {(): 0.17, ("a",): 0.60, ("v",): 0.40, ("a", "v"): 0.70}
    values = shapley_values(accuracy, ("a", "v"))
    assert values["a"] == pytest.approx(0.365)
    assert values["v"] == pytest.approx(0.165)
    assert sum(values.values()) == pytest.approx(0.53)


def test_they_are_the_mean_gain_over_all_orders_of_joining():
    names = ("a", "t", "v", "w")
    generator = torch.Generator().manual_seed(0)
    accuracy = {part: float(torch.rand((), generator=generator)) for part in [(), *subsets(names)]}

    def of(chosen):
        return accuracy[tuple(name for name in names if name in chosen)]

    orders = list(itertools.permutations(names))
    for name in names:
        gains = []
        for order in orders:
            before = set(order[: order.index(name)])
            gains.append(of(before | {name}) - of(before))
        expected = sum(gains) / len(orders)
        assert shapley_values(accuracy, names)[name] == pytest.approx(expected)


def test_one_modality_has_it_all_and_a_useless_one_nothing():
    assert shapley_values({(): 0.1, ("a",): 0.6}, ("a",)) == {"a": pytest.approx(0.5)}
    accuracy = {(): 0.1, ("a",): 0.6, ("b",): 0.1, ("a", "b"): 0.6}
    assert shapley_values(accuracy, ("a", "b"))["b"] == pytest.approx(0)


def test_shares_of_who_is_right_add_up():
    yes, no = True, False
    right = {
        "multi": torch.tensor([yes, yes, no, yes, no, no]),
        "a": torch.tensor([yes, no, yes, yes, no, no]),
        "v": torch.tensor([no, no, no, yes, no, yes]),
    }
    fractions = agreement(right)
    assert fractions == {
        "only_a": pytest.approx(2 / 6),
        "only_v": pytest.approx(1 / 6),
        "several": pytest.approx(1 / 6),
        "only_together": pytest.approx(1 / 6),
        "never": pytest.approx(1 / 6),
    }
    assert sum(fractions.values()) == pytest.approx(1)
