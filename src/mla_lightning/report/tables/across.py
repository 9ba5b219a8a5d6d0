"""Statistics over several data sets: interquartile mean, probability of improvement, ranks.

The first two, with stratified bootstrap intervals, are those of Agarwal et al., "Deep Reinforcement
Learning at the Edge of the Statistical Precipice", NeurIPS 2021 (rliable); ranks are those of
Demšar, "Statistical Comparisons of Classifiers over Multiple Data Sets", JMLR 2006.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from mla_lightning.report.read.significance import CONFIDENCE

if TYPE_CHECKING:
    import numpy as np

NUM_RESAMPLES = 2000
#: Level of the tests over data sets.
LEVEL = 1 - CONFIDENCE
#: The scores of one method: for each data set, those of its runs.
Scores = Sequence[Sequence[float]]


@dataclass(frozen=True)
class Estimate:
    """An estimate over data sets with its 95 % interval.

    Attributes:
        value: The estimate.
        low: Lower end of the bootstrap interval.
        high: Upper end.
    """

    value: float
    low: float
    high: float


def interquartile_mean(scores: Scores) -> Estimate:
    """Compute the mean of the middle half of all runs on all data sets.

    Args:
        scores: Scores by data set and run, normalised so that data sets can be mixed.

    Returns:
        The mean without the lowest and the highest quarter of the runs.

    Example:
        >>> interquartile_mean([[0.0, 1.0, 2.0, 3.0], [1.0, 2.0, 1.0, 100.0]]).value
        1.5
    """
    return _estimate(lambda sets: _trimmed_mean(*sets), scores)


def probability_of_improvement(first: Scores, second: Scores) -> Estimate:
    """Compute how often a run of one method is better than a run of another, averaged over sets.

    A run with an equal score counts half. Runs are not paired.

    Args:
        first: Scores of the first method by data set and run; larger is better.
        second: Scores of the second method on the same data sets.

    Returns:
        The probability, 0.5 for equal methods.

    Example:
        >>> first, second = [[70, 72, 74, 75, 71]], [[69, 73, 70, 74, 71]]
        >>> round(probability_of_improvement(first, second).value, 6)
        0.66
    """
    num = len(first)

    def mean_over_sets(sets: Sequence[np.ndarray]) -> np.ndarray:
        pairs = zip(sets[:num], sets[num:], strict=True)
        return sum(_share_better(x, y) for x, y in pairs) / num  # type: ignore[return-value]

    return _estimate(mean_over_sets, [*first, *second])


def _share_better(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return P(X > Y) + P(X = Y) / 2 of runs (R, N) and (R, K), for each resample (R,)."""
    difference = x[:, :, None] - y[:, None, :]
    return ((difference > 0) + 0.5 * (difference == 0)).mean(axis=(1, 2))


def _trimmed_mean(*sets: np.ndarray) -> np.ndarray:
    """Return the mean of the middle half of the runs (R, N) of all sets, for each resample (R,)."""
    import numpy as np

    runs = np.sort(np.concatenate(sets, axis=1), axis=1)
    cut = int(0.25 * runs.shape[1])
    return runs[:, cut : runs.shape[1] - cut].mean(axis=1)


def _estimate(function: Callable[[Sequence[np.ndarray]], np.ndarray], scores: Scores) -> Estimate:
    """Estimate a function of runs, and its interval by resampling the runs of each data set."""
    import numpy as np

    rng = np.random.default_rng(0)
    sets = [np.asarray(runs, float) for runs in scores]
    drawn = [runs[rng.integers(0, len(runs), (NUM_RESAMPLES, len(runs)))] for runs in sets]
    low, high = np.quantile(function(drawn), [LEVEL / 2, 1 - LEVEL / 2])
    return Estimate(float(function([runs[None] for runs in sets])[0]), float(low), float(high))


@dataclass(frozen=True)
class Ranks:
    """Ranks of methods over data sets, and Friedman's test of equal methods.

    Attributes:
        means: The mean rank of each method; 1 is the best.
        chi2: Friedman's statistic.
        f: The statistic of Iman and Davenport, which is F-distributed.
        p: Its p-value.
        critical_difference: The difference of two mean ranks from which Nemenyi's test calls them
            significantly different.
    """

    means: tuple[float, ...]
    chi2: float
    f: float
    p: float
    critical_difference: float


def rank_methods(scores: Sequence[Sequence[float]]) -> Ranks:
    """Rank methods on each data set, and test whether they are equal.

    The data sets are the samples of the test, never the seeds: each has one score per method.

    Args:
        scores: For each data set, the score of each method; larger is better. At least two data
            sets and two methods.

    Returns:
        The ranks; methods with equal scores share the mean of their ranks.

    Example:
        >>> scores = [(0.70, 0.72, 0.75), (0.60, 0.66, 0.65), (0.55, 0.58, 0.61)]
        >>> ranks = rank_methods([*scores, (0.80, 0.83, 0.84)])
        >>> ranks.means, ranks.chi2, round(ranks.f, 9)
        ((3.0, 1.75, 1.25), 6.5, 13.0)
    """
    from scipy.special import fdtrc
    from scipy.stats import rankdata

    num, k = len(scores), len(scores[0])
    ranks = [rankdata([-score for score in row]) for row in scores]
    means = tuple(float(sum(row[place] for row in ranks) / num) for place in range(k))
    chi2 = 12 * num / (k * (k + 1)) * (sum(r * r for r in means) - k * (k + 1) ** 2 / 4)
    rest = num * (k - 1) - chi2
    f = (num - 1) * chi2 / rest if rest > 1e-12 else math.inf
    p = float(fdtrc(k - 1, (k - 1) * (num - 1), f)) if math.isfinite(f) else 0.0
    return Ranks(means, chi2, f, p, critical_difference(k, num))


def critical_difference(num_methods: int, num_sets: int) -> float:
    """Compute the difference of mean ranks that Nemenyi's test calls significant.

    Args:
        num_methods: Number of methods k.
        num_sets: Number of data sets.

    Returns:
        The studentised range's quantile at level 0.05, times ``sqrt(k (k + 1) / (12 num_sets))``.

    Example:
        >>> [round(critical_difference(k, n), 2) for k, n in ((25, 6), (25, 20), (10, 6), (10, 20))]
        [15.54, 8.51, 5.53, 3.03]
    """
    return _quantile(num_methods) * math.sqrt(num_methods * (num_methods + 1) / (12 * num_sets))


@cache
def _quantile(num_methods: int) -> float:
    """Return the quantile of the studentised range, which takes seconds to compute."""
    from scipy.stats import studentized_range

    return float(studentized_range.ppf(1 - LEVEL, num_methods, math.inf))


def cliques(means: Sequence[float], difference: float) -> list[tuple[int, int]]:
    """Return the groups of methods that ranks do not separate.

    Args:
        means: Mean ranks in ascending order.
        difference: The critical difference.

    Returns:
        First and last position of each largest group of two or more methods.

    Example:
        >>> cliques([1.0, 2.0, 2.5, 5.0], difference=2.0)
        [(0, 2)]
        >>> cliques([1.0, 2.0, 3.0], difference=1.5)
        [(0, 1), (1, 2)]
    """
    groups: list[tuple[int, int]] = []
    for first, low in enumerate(means):
        last = max(place for place, high in enumerate(means) if high - low < difference)
        if last > first and (not groups or last > groups[-1][1]):
            groups.append((first, last))
    return groups


def detectable_effect(sd: float, num_seeds: int, num_comparisons: int, power: float = 0.8) -> float:
    """Compute the smallest true difference that would probably have been found significant.

    Of a paired t-test at level 0.05 after Bonferroni's correction, which Holm's method applies to
    the smallest p of a family.

    Args:
        sd: Standard deviation of the paired differences over seeds.
        num_seeds: Number of pairs.
        num_comparisons: Number of tests in the family.
        power: Probability of finding the difference.

    Returns:
        The difference, in the unit of ``sd``.

    Example:
        One comparison of ten seeds finds a difference of one standard deviation in 80 % of cases;
        one of a hundred comparisons needs two of them:

        >>> round(detectable_effect(1.0, 10, 1), 2), round(detectable_effect(1.0, 10, 100), 2)
        (1.0, 2.05)
    """
    from scipy.special import nctdtr, stdtrit

    critical = float(stdtrit(num_seeds - 1, 1 - LEVEL / (2 * num_comparisons)))
    low, high = 0.0, 4 * critical + 10
    for _ in range(60):  # the power grows with the effect
        middle = (low + high) / 2
        found = 1 - float(nctdtr(num_seeds - 1, middle, critical))
        low, high = (middle, high) if found < power else (low, middle)
    return sd * low / math.sqrt(num_seeds)
