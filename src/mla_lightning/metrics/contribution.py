"""Contribution of each modality: Shapley values of accuracy, and agreement of the predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from math import factorial

import torch
from torch import Tensor

#: Largest number of modalities for which all subsets are computed.
MAX_MODALITIES = 4


def subsets(modalities: Sequence[str]) -> list[tuple[str, ...]]:
    """Return all non-empty subsets of modalities, small ones first, in the modalities' order.

    Args:
        modalities: The M modalities.

    Returns:
        2^M - 1 subsets.

    Example:
        >>> subsets(["audio", "visual"])
        [('audio',), ('visual',), ('audio', 'visual')]
    """
    sizes = range(1, len(modalities) + 1)
    return [subset for size in sizes for subset in combinations(modalities, size)]


def shapley_values(
    accuracy: Mapping[tuple[str, ...], float], modalities: Sequence[str]
) -> dict[str, float]:
    r"""Divide the fused accuracy among the modalities (Shapley 1953).

    .. math:: \varphi_m = \sum_{S \not\ni m} \frac{|S|! (M - |S| - 1)!}{M!}
        [A(S \cup m) - A(S)]

    Their sum is the accuracy of all modalities minus that of none.

    Args:
        accuracy: Subset of modalities, in their order -> accuracy A, including the empty subset.
        modalities: The M modalities.

    Returns:
        Modality -> its value.

    Example:
        The mean gain over both orders: audio adds 0.5 as the first one and 0.25 as the second.

        >>> accuracy = {(): 0.25, ("a",): 0.75, ("v",): 0.5, ("a", "v"): 0.75}
        >>> shapley_values(accuracy, ["a", "v"])
        {'a': 0.375, 'v': 0.125}
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


def agreement(is_correct: Mapping[str, Tensor]) -> dict[str, float]:
    r"""Count which modalities predict correctly: fractions of samples that sum to 1.

    With :math:`k_n` the number of single modalities that are correct on sample n, ``only_m`` is the
    fraction with :math:`k_n = 1` and m correct, ``several`` the one with :math:`k_n > 1`, and
    :math:`k_n = 0` is divided by whether the fused prediction is correct. This project's own count,
    in the spirit of unique, redundant and synergistic information (Williams and Beer 2010), of
    predictions and not of bits.

    Args:
        is_correct: Modality and ``multi`` -> (N,) bool.

    Returns:
        ``only_<modality>``: no other modality is correct, whether or not the fused prediction is;
        ``several``: more than one modality is; ``only_together``: the fused prediction is, and no
        modality; ``never``: neither.

    Example:
        >>> agreement(
        ...     {
        ...         "multi": torch.tensor([True, True, False, True]),
        ...         "audio": torch.tensor([True, True, False, False]),
        ...         "visual": torch.tensor([True, False, False, False]),
        ...     }
        ... )
        {'only_audio': 0.25, 'only_visual': 0.0, 'several': 0.25, 'only_together': 0.25,
         'never': 0.25}
    """
    names = [name for name in is_correct if name != "multi"]
    is_correct_MN = torch.stack([is_correct[name] for name in names])
    count_N = is_correct_MN.sum(dim=0)
    fractions = {
        f"only_{name}": _fraction(is_correct_MN[row] & (count_N == 1))
        for row, name in enumerate(names)
    }
    fractions["several"] = _fraction(count_N > 1)
    fractions["only_together"] = _fraction((count_N == 0) & is_correct["multi"])
    fractions["never"] = _fraction((count_N == 0) & ~is_correct["multi"])
    return fractions


def _fraction(rows: Tensor) -> float:
    return float(rows.double().mean())
