"""Significance tests: paired comparisons over seeds, Holm correction, errors of an accuracy."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95
#: A difference is significant if its corrected p is below this level.
SIGNIFICANT = 0.05
#: Decimals to which differences are rounded: values have four, the rest is rounding error.
DIGITS = 9


@dataclass(frozen=True)
class Comparison:
    """Differences between two methods, paired by seed.

    Attributes:
        seeds: The seeds that both have.
        mean: Mean difference; None without a common seed.
        sd: Sample standard deviation of the differences; None for fewer than two seeds.
        low: Lower end of the 95 % confidence interval of the mean; None where there is no test.
        high: Upper end.
        p: Two-sided p-value of the paired t-test; None where there is no test.
    """

    seeds: tuple[int, ...]
    mean: float | None = None
    sd: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None


def compare(first: Mapping[int, float], second: Mapping[int, float]) -> Comparison:
    """Compare two methods with Student's paired t-test over their common seeds.

    If all differences are zero, p = 1. With fewer than two seeds, or if all differences are equal
    but not zero, there is no variance to test against and so no p: an infinite t statistic would
    claim a certainty that a few runs on one small test set do not give.

    Args:
        first: Seed -> value.
        second: Seed -> value that is subtracted.

    Returns:
        The comparison of ``first - second``.

    Example:
        >>> result = compare({0: 1.0, 1: 3.0, 7: 9.0}, {0: 0.0, 1: 0.0})
        >>> result.seeds, result.mean
        ((0, 1), 2.0)
        >>> round(result.p, 6) == round(1 - 2 / math.pi * math.atan(2), 6)  # one degree of freedom
        True
    """
    from scipy.special import stdtr, stdtrit  # scipy.stats takes four times as long to import

    seeds = tuple(sorted(first.keys() & second.keys()))
    differences = [round(first[seed] - second[seed], DIGITS) for seed in seeds]
    num = len(differences)
    if num == 0:
        return Comparison(seeds)
    mean = statistics.fmean(differences)
    if num == 1:
        return Comparison(seeds, mean)
    sd = statistics.stdev(differences)
    if sd == 0:
        return (
            Comparison(seeds, mean, 0.0, 0.0, 0.0, 1.0)
            if mean == 0
            else Comparison(seeds, mean, 0.0)
        )
    error = sd / math.sqrt(num)
    half_width = float(stdtrit(num - 1, (1 + CONFIDENCE) / 2)) * error
    p = 2 * float(stdtr(num - 1, -abs(mean / error)))
    return Comparison(seeds, mean, sd, mean - half_width, mean + half_width, p)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Correct the p-values of a family of tests with Holm's step-down method (Holm, 1979).

    Args:
        p_values: The family; None where no test was possible, which does not count as a test.

    Returns:
        The corrected p-values in the same order. Calling those below a level significant keeps the
        probability of any false positive in the family below the level.

    Example:
        >>> holm([0.01, 0.04, None, 0.03])
        [0.03, 0.06, None, 0.06]
    """
    tested = sorted((p, position) for position, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, position) in enumerate(tested):
        largest = max(largest, min(1.0, (len(tested) - rank) * p))
        corrected[position] = largest
    return corrected


def mcnemar(only_a: int, only_b: int) -> float:
    """Compute the exact McNemar test of equal accuracy of two models on the same samples.

    Args:
        only_a: Number of samples for which only A is correct.
        only_b: Number of samples for which only B is correct.

    Returns:
        Two-sided p-value of the binomial test; 1 where there is no such sample.

    Example:
        >>> mcnemar(0, 5)  # 2 * 0.5**5
        0.0625
    """
    from scipy.stats import binomtest

    total = only_a + only_b
    return float(binomtest(only_b, total).pvalue) if total else 1.0


def binomial_error(accuracy: float, num: int) -> float:
    """Compute the standard error of an accuracy due to the finite number of test samples.

    Args:
        accuracy: In percent.
        num: Number of test samples.

    Returns:
        The standard error in percentage points.

    Example:
        >>> binomial_error(50.0, 100)
        5.0
    """
    p = min(max(accuracy / 100, 0.0), 1.0)
    return 100 * math.sqrt(p * (1 - p) / num)


def least_effect(num_seeds: int, num_comparisons: int, level: float) -> float:
    """Compute the smallest effect that is significant in a paired t-test after correction.

    The correction is Bonferroni's, which Holm's method applies to the smallest p of a family. The
    result is about the observed effect: a true effect of this size is significant in about half of
    all experiments.

    Args:
        num_seeds: Number of pairs.
        num_comparisons: Size of the family.
        level: Level that the corrected p has to reach.

    Returns:
        Mean difference divided by its standard deviation over seeds.

    Example:
        >>> round(least_effect(num_seeds=10, num_comparisons=1, level=0.05), 3)  # 2.262 / 10**0.5
        0.715
    """
    from scipy.special import stdtrit

    t = float(stdtrit(num_seeds - 1, 1 - level / (2 * num_comparisons)))
    return t / math.sqrt(num_seeds)
