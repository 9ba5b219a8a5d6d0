"""Significance tests against scipy, closed forms and published examples."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mla_lightning.report.read.significance import binomial_error, compare, holm


def by_seed(values):
    return dict(enumerate(values))


@pytest.mark.parametrize("num", [2, 3, 10, 30])
def test_paired_t_test_agrees_with_scipy(num):
    rng = random.Random(num)
    first = [60 + rng.gauss(0, 2) for _ in range(num)]
    second = [58 + rng.gauss(0, 2) for _ in range(num)]
    result = compare(by_seed(first), by_seed(second))
    expected = stats.ttest_rel(first, second)
    interval = expected.confidence_interval(0.95)
    assert result.p == pytest.approx(expected.pvalue, rel=1e-7)
    assert (result.low, result.high) == pytest.approx((interval.low, interval.high), rel=1e-6)


def test_closed_form_for_two_and_three_seeds():
    # differences 1, 3: t = 2 / 1 with one degree of freedom, p = 1 - (2 / pi) atan(t)
    result = compare(by_seed([1.0, 3.0]), by_seed([0.0, 0.0]))
    assert (result.mean, result.sd) == pytest.approx((2.0, math.sqrt(2)))
    assert result.p == pytest.approx(1 - 2 / math.pi * math.atan(2.0))
    # two degrees of freedom: p = 1 - t / sqrt(t^2 + 2)
    result = compare(by_seed([1.0, 2.0, 3.0]), by_seed([0.0, 0.0, 0.0]))
    t = 2 / (1 / math.sqrt(3))
    assert result.p == pytest.approx(1 - t / math.sqrt(t**2 + 2))


def test_only_common_seeds_are_paired():
    result = compare({0: 1.0, 1: 2.0, 5: 90.0}, {0: 0.0, 1: 4.0, 7: -90.0})
    assert result.seeds == (0, 1)
    assert result.mean == -0.5


def test_order_of_seeds_does_not_matter():
    assert compare({1: 5.0, 0: 1.0}, {0: 0.0, 1: 2.0}) == compare(
        {0: 1.0, 1: 5.0}, {1: 2.0, 0: 0.0}
    )


def test_below_two_seeds_there_is_no_test():
    result = compare({3: 61.0}, {3: 60.0})
    assert (result.mean, result.sd, result.p, result.low) == (1.0, None, None, None)
    result = compare({1: 61.0}, {3: 60.0})
    assert (result.mean, result.p, result.seeds) == (None, None, ())


def test_equal_numbers_give_p_one():
    result = compare(by_seed([60.1, 59.7]), by_seed([60.1, 59.7]))
    assert (result.mean, result.p, result.low, result.high) == (0.0, 1.0, 0.0, 0.0)


def test_equal_differences_have_zero_variance_and_no_p():
    # 0.3 - 0.1 and 0.4 - 0.2 differ in the last bit, which is rounded away
    result = compare(by_seed([0.3, 0.4]), by_seed([0.1, 0.2]))
    assert result.mean == pytest.approx(0.2)
    assert (result.sd, result.p) == (0.0, None)


@pytest.mark.parametrize(
    ("raw", "corrected"),
    [
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),  # Holm 1979, as R's p.adjust
        ([0.5], [0.5]),
        ([0.9, 0.8], [1.0, 1.0]),
        ([0.02, None, 0.01], [0.02, None, 0.02]),
        ([], []),
    ],
)
def test_holm_agrees_with_worked_examples(raw, corrected):
    assert holm(raw) == pytest.approx(corrected)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_keeps_the_order_and_lies_between_raw_and_bonferroni(raw):
    corrected = holm(raw)
    for p, q in zip(raw, corrected, strict=True):
        assert p <= q <= min(1.0, len(raw) * p) or q == pytest.approx(p)
    by_raw = [q for _, q in sorted(zip(raw, corrected, strict=True))]
    assert by_raw == sorted(by_raw)


def test_binomial_error_is_the_standard_error_of_a_proportion():
    assert binomial_error(50.0, 100) == pytest.approx(5.0)
    assert binomial_error(60.0, 490) == pytest.approx(2.213, abs=1e-3)
    assert binomial_error(100.0, 490) == 0.0
