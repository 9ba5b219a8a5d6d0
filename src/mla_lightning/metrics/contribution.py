"""What each modality contributes: Shapley values of accuracy, and who is right on which sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from math import factorial

import torch
from torch import Tensor

#: Most modalities for which all subsets are computed.
MOST_MODALITIES = 4


def subsets(modalities: Sequence[str]) -> list[tuple[str, ...]]:
    """List all non-empty subsets of modalities, small ones first, in the order of the modalities.

    Args:
        modalities: The M modalities.

    Returns:
        2^M - 1 subsets.
    """
    sizes = range(1, len(modalities) + 1)
    return [part for size in sizes for part in combinations(modalities, size)]


def shapley_values(
    accuracy: Mapping[tuple[str, ...], float], modalities: Sequence[str]
) -> dict[str, float]:
    r"""Divide the fused accuracy among the modalities (Shapley 1953).

    .. math:: \varphi_m = \sum_{S \not\ni m} \frac{|S|! (M - |S| - 1)!}{M!}
        [A(S \cup m) - A(S)]

    They sum to the accuracy of all modalities less that of none.

    Args:
        accuracy: Subset of modalities, in their order -> accuracy A, the empty one included.
        modalities: The M modalities.

    Returns:
        Modality -> its value.
    """
    num = len(modalities)
    values = dict.fromkeys(modalities, 0.0)
    for subset in [(), *subsets(modalities)]:
        weight = (
            factorial(len(subset)) * factorial(num - len(subset) - 1) if num > len(subset) else 0
        )
        for name in modalities:
            if name not in subset:
                joined = tuple(m for m in modalities if m == name or m in subset)
                gain = accuracy[joined] - accuracy[subset]
                values[name] += weight / factorial(num) * gain
    return values


def agreement(is_right: Mapping[str, Tensor]) -> dict[str, float]:
    r"""Tell who is right: shares of samples that sum to 1.

    With :math:`k_n` the number of single modalities that are right on sample n, the share of
    ``only_m`` is that of :math:`k_n = 1` with m right, of ``several`` :math:`k_n > 1`, and
    :math:`k_n = 0` is divided by whether the fused answer is right. An own count, in the spirit of
    unique, redundant and synergistic information (Williams and Beer 2010), of answers and not of
    bits.

    Args:
        is_right: Modality and ``multi`` -> (N,) bool.

    Returns:
        ``only_<modality>``: right by this modality alone of all modalities, whatever fusion makes
        of it; ``several``: by more than one; ``only_together``: by the fused answer and no single
        modality; ``never``: by nobody.
    """
    names = [name for name in is_right if name != "multi"]
    right_MN = torch.stack([is_right[name] for name in names])
    count_N = right_MN.sum(dim=0)
    found = {
        f"only_{name}": _share(right_MN[row] & (count_N == 1)) for row, name in enumerate(names)
    }
    found["several"] = _share(count_N > 1)
    found["only_together"] = _share((count_N == 0) & is_right["multi"])
    found["never"] = _share((count_N == 0) & ~is_right["multi"])
    return found


def _share(rows: Tensor) -> float:
    return float(rows.double().mean())
