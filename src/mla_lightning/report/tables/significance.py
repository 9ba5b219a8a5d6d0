"""Paired comparisons over seeds, corrected for how many are made."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95
#: Differences are taken of numbers with four decimals; smaller ones are rounding errors.
DIGITS = 9


@dataclass(frozen=True)
class Comparison:
    """Differences between two methods, paired by seed.

    Attributes:
        seeds: The seeds that both have.
        mean: Mean difference; None without a common seed.
        sd: Sample standard deviation of the differences; None below two seeds.
        low: Lower end of the mean's 95 % interval; None where there is no test.
        high: Upper end.
        p: Exact two-sided p of the paired t-test; None where there is no test.
    """

    seeds: tuple[int, ...]
    mean: float | None = None
    sd: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None


def compare(first: Mapping[int, float], second: Mapping[int, float]) -> Comparison:
    """Compare two methods with Student's paired t-test over their common seeds.

    Equal numbers throughout give p = 1. Below two seeds, or when all differences are equal but
    not zero, there is no spread to test against and so no p: a t statistic of infinity would
    claim a certainty that two or three runs on one small test set do not have.

    Args:
        first: Seed -> number.
        second: Seed -> number that is subtracted.

    Returns:
        The comparison of ``first - second``.
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
    reach = float(stdtrit(num - 1, (1 + CONFIDENCE) / 2)) * error
    p = 2 * float(stdtr(num - 1, -abs(mean / error)))
    return Comparison(seeds, mean, sd, mean - reach, mean + reach, p)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Correct a family of p-values with Holm's step-down method.

    Args:
        p_values: The family; None where no test was possible, which counts as none made.

    Returns:
        The corrected p-values in the same order; each controls the chance of any false claim in
        the family.
    """
    tested = sorted((p, position) for position, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, position) in enumerate(tested):
        largest = max(largest, min(1.0, (len(tested) - rank) * p))
        corrected[position] = largest
    return corrected


def binomial_error(accuracy: float, num: int) -> float:
    """Standard error of an accuracy that comes from the test set's finite size.

    Args:
        accuracy: In percent.
        num: Number of test samples.

    Returns:
        In percentage points.
    """
    share = min(max(accuracy / 100, 0.0), 1.0)
    return 100 * math.sqrt(share * (1 - share) / num)


def least_effect(num_seeds: int, num_comparisons: int, level: float) -> float:
    """Tell the effect size from which a paired t-test survives Bonferroni's correction.

    It is what Holm's method asks of the smallest p of a family. An effect must come out so large;
    one that is so large in truth does so every other time.

    Args:
        num_seeds: Number of pairs.
        num_comparisons: Size of the family.
        level: Corrected p that it must reach.

    Returns:
        Mean difference over its standard deviation.
    """
    from scipy.special import stdtrit

    t = float(stdtrit(num_seeds - 1, 1 - level / (2 * num_comparisons)))
    return t / math.sqrt(num_seeds)
