"""Averages of the predictions of several models."""

from __future__ import annotations

from itertools import combinations, pairwise

import torch
from torch import Tensor

from mla_lightning.functional.precision import at_least_single


def fuse_probabilities(weights: Tensor, logits: Tensor) -> Tensor:
    """Average the probabilities of the modalities, weighted, and return their logarithm.

    Args:
        weights: Weights, shape (M, B), whose sum over modalities is 1; zero for absent ones.
        logits: Logits, shape (M, B, C).

    Returns:
        Log-probabilities, shape (B, C).

    Example:
        >>> logits = torch.tensor([[[100.0, 0.0]], [[0.0, 0.0]]])
        >>> fuse_probabilities(torch.tensor([[0.5], [0.5]]), logits).exp()
        tensor([[0.7500, 0.2500]])
    """
    log_p = at_least_single(logits).log_softmax(dim=-1)
    return torch.logsumexp(log_p + weights.log()[..., None], dim=0)


def simplex_grid(num: int, steps: int) -> Tensor:
    """List all weights that are multiples of ``1 / steps`` and sum to 1.

    Args:
        num: Number of weights, at least 1.
        steps: Number of steps from 0 to 1, at least 1.

    Returns:
        Weights, shape (G, num), in lexicographic order.

    Raises:
        ValueError: If a number is below 1.

    Example:
        >>> simplex_grid(2, 2)
        tensor([[0.0000, 1.0000],
                [0.5000, 0.5000],
                [1.0000, 0.0000]])
        >>> len(simplex_grid(3, 10))
        66
    """
    if num < 1 or steps < 1:
        raise ValueError(f"num and steps must be at least 1, got {num} and {steps}")
    # Bars between the parts of a row of steps.
    bars = combinations(range(steps + num - 1), num - 1)
    ends = [(-1, *places, steps + num - 1) for places in bars]
    rows = [[b - a - 1 for a, b in pairwise(row)] for row in ends]
    return torch.tensor(rows) / steps
