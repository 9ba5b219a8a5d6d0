"""Filling in and reconstructing what is missing."""

from __future__ import annotations

import torch
from torch import Tensor


def mean_of_present(x: Tensor, present: Tensor) -> Tensor:
    """Average the vectors that are there.

    Args:
        x: (N, D).
        present: (N,) bool, at least one true.

    Returns:
        (D,).

    Raises:
        ValueError: If none is there.
    """
    if not present.any():
        raise ValueError("no sample has the modality, so it has no mean")
    return x[present].mean(dim=0)


def padded(x: Tensor, present: Tensor, mean: Tensor) -> Tensor:
    """Put a mean in the place of vectors that are missing.

    Args:
        x: (N, D).
        present: (N,) bool.
        mean: (D,).

    Returns:
        (N, D).
    """
    return torch.where(present[:, None], x, mean.to(x))


def reconstruction_loss(found: Tensor, x: Tensor, cells: Tensor) -> Tensor:
    r"""Compare reconstructions with their targets: :math:`\sum_i \|\hat x_i - x_i\|^2 / D`.

    Summed over the samples, not averaged, as in GCNet's code.

    Args:
        found: Reconstructions (B, D).
        x: Targets (B, D).
        cells: (B,) bool, the samples that are targets; the others add nothing.

    Returns:
        A scalar.
    """
    return (found[cells] - x[cells]).square().sum() / found.shape[1]
