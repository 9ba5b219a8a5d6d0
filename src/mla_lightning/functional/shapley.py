"""Shapley values: how much each modality contributes, over all subsets of the modalities.

Source: L. S. Shapley, A value for n-person games, 1953. Used by AGM (ICCV 2023) for logits, and for
the valuation of modalities by sample (CVPR 2024).
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from math import factorial

import torch
from torch import Tensor

from mla_lightning.functional.precision import at_least_single


def subsets(num_modalities: int) -> list[frozenset[int]]:
    """Return all subsets of the positions of M modalities, the smallest ones first.

    Args:
        num_modalities: Number of modalities M.

    Returns:
        The 2^M subsets; the first one is empty, the last one has all positions.

    Example:
        >>> [sorted(subset) for subset in subsets(2)]
        [[], [0], [1], [0, 1]]
    """
    positions = range(num_modalities)
    return [
        frozenset(s) for size in range(num_modalities + 1) for s in combinations(positions, size)
    ]


def shapley_values(values: Mapping[frozenset[int], Tensor]) -> Tensor:
    r"""Compute each modality's Shapley value of a value v that every subset of them has.

    .. math:: \varphi_m = \sum_{S \not\ni m} \frac{|S|! \, (M - |S| - 1)!}{M!}
              \left[ v(S \cup \{m\}) - v(S) \right]

    They add up to the value of all modalities less that of none.

    Args:
        values: Subset of the positions 0 to M - 1, see :func:`subsets` -> its value, a tensor of
            floats. All have the same shape, such as logits (B, C) or numbers of samples (B,).

    Returns:
        Shapley values (M, ...), of each entry on its own.

    Raises:
        ValueError: If a subset, possibly the empty one, has no value.

    Example:
        Either modality alone is right about the first sample, and only both about the second:

        >>> values = {
        ...     frozenset(): torch.tensor([0.0, 0.0]),
        ...     frozenset({0}): torch.tensor([1.0, 0.0]),
        ...     frozenset({1}): torch.tensor([1.0, 0.0]),
        ...     frozenset({0, 1}): torch.tensor([1.0, 1.0]),
        ... }
        >>> shapley_values(values)
        tensor([[0.5000, 0.5000],
                [0.5000, 0.5000]])
    """
    num = len(frozenset().union(*values))
    missing = [sorted(subset) for subset in subsets(num) if subset not in values]
    if missing or not num:
        raise ValueError(f"values must have all subsets of {num} positions; without {missing}")
    v = {subset: at_least_single(value) for subset, value in values.items()}
    weights = [factorial(size) * factorial(num - size - 1) / factorial(num) for size in range(num)]
    gains = [
        [weights[len(s)] * (v[s | {m}] - v[s]) for s in subsets(num) if m not in s]
        for m in range(num)
    ]
    return torch.stack([torch.stack(of_modality).sum(dim=0) for of_modality in gains])
