"""Statistics over data sets against rliable, scipy and published tables."""

import numpy as np
import pytest
import scipy.stats

from mla_lightning.report.tables.across import (
    cliques,
    critical_difference,
    detectable_effect,
    interquartile_mean,
    probability_of_improvement,
    rank_methods,
)

X = [[60, 62, 61, 64, 59, 63], [40, 41, 45, 42, 43, 44]]
Y = [[59, 61, 60, 62, 58, 60], [42, 40, 41, 44, 46, 43]]


def test_the_interquartile_mean_is_rliables():
    """Values of rliable 1.2.0 (aggregate_iqm, 20,000 resamples) for the same runs."""
    estimate = interquartile_mean(X)
    assert estimate.value == pytest.approx(52.0)
    assert (estimate.low, estimate.high) == pytest.approx((50.9, 53.17), abs=0.25)
    assert interquartile_mean(Y).value == pytest.approx(51.66666667)


def test_the_probability_of_improvement_is_rliables():
    estimate = probability_of_improvement(X, Y)
    assert estimate.value == pytest.approx(0.61111111)
    assert (estimate.low, estimate.high) == pytest.approx((0.389, 0.823), abs=0.02)


def test_the_probability_of_improvement_of_equal_runs_is_a_half():
    assert probability_of_improvement(X, X).value == 0.5
    swapped = probability_of_improvement(Y, X).value
    assert swapped == pytest.approx(1 - probability_of_improvement(X, Y).value)


def test_friedmans_test_is_scipys():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(9, 5)) + np.arange(5) / 2
    ranks = rank_methods(scores.tolist())
    assert ranks.chi2 == pytest.approx(scipy.stats.friedmanchisquare(*scores.T).statistic)
    assert ranks.means == tuple(scipy.stats.rankdata(-scores, axis=1).mean(axis=0))
    f = (9 - 1) * ranks.chi2 / (9 * (5 - 1) - ranks.chi2)
    assert ranks.p == pytest.approx(scipy.stats.f.sf(f, 4, 32))


def test_one_order_on_every_set_has_no_variance():
    ranks = rank_methods([(3, 2, 1)] * 4)
    assert ranks.means == (1, 2, 3)
    assert ranks.p == 0


@pytest.mark.parametrize(
    ("num_methods", "num_sets", "expected"),
    # Demsar (2006), table 5a: q of k methods, times sqrt(k (k + 1) / (6 n))
    [(2, 6, 1.960), (5, 6, 2.728), (10, 10, 3.164)],
)
def test_the_critical_difference_is_that_of_published_quantiles(num_methods, num_sets, expected):
    scale = np.sqrt(num_methods * (num_methods + 1) / (6 * num_sets))
    assert critical_difference(num_methods, num_sets) / scale == pytest.approx(expected, abs=1e-3)


def test_groups_are_the_largest_ones():
    assert cliques([1, 2, 3, 4, 9], 2.5) == [(0, 2), (1, 3)]
    assert cliques([1, 5, 9], 2.5) == []


def test_a_detectable_effect_is_found_as_often_as_said():
    rng, num, tests = np.random.default_rng(0), 10, 30
    effect = detectable_effect(2.0, num, tests)
    differences = rng.normal(effect, 2.0, size=(20_000, num))
    p = scipy.stats.ttest_1samp(differences, 0.0, axis=1).pvalue
    assert (p * tests < 0.05).mean() == pytest.approx(0.8, abs=0.01)
