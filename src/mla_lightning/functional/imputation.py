"""Imputation of missing vectors, and the reconstruction loss."""

from __future__ import annotations

import torch
from torch import Tensor


def mean_of_present(x: Tensor, present: Tensor) -> Tensor:
    """Average the vectors of the samples that have the modality.

    Args:
        x: Vectors of one modality, shape (N, D); absent ones may hold anything, also NaN.
        present: Which samples have the modality, shape (N,) bool, at least one true.

    Returns:
        The mean vector, shape (D,).

    Raises:
        ValueError: If no sample has the modality.

    Example:
        >>> x = torch.tensor([[1.0, 2.0], [3.0, 4.0], [float("nan"), 0.0]])
        >>> mean_of_present(x, torch.tensor([True, True, False]))
        tensor([2., 3.])
    """
    if not present.any():
        raise ValueError("no sample has the modality, so it has no mean")
    return x[present].mean(dim=0)


def fill_with_mean(x: Tensor, present: Tensor, mean: Tensor) -> Tensor:
    """Replace missing vectors by a mean vector.

    Args:
        x: Vectors of one modality, shape (N, D).
        present: Which samples have the modality, shape (N,) bool.
        mean: The replacement, shape (D,).

    Returns:
        The vectors, shape (N, D).

    Example:
        >>> x = torch.tensor([[1.0, 2.0], [3.0, 4.0], [float("nan"), 0.0]])
        >>> fill_with_mean(x, torch.tensor([True, True, False]), mean=torch.tensor([2.0, 3.0]))
        tensor([[1., 2.],
                [3., 4.],
                [2., 3.]])
    """
    return torch.where(present[:, None], x, mean.to(x))


def reconstruction_loss(reconstruction: Tensor, x: Tensor, is_target: Tensor) -> Tensor:
    r"""Sum the squared errors of reconstructions: :math:`\sum_i \|\hat x_i - x_i\|^2 / D`.

    Averaged over the features and summed over the samples, as in GCNet's code.

    Args:
        reconstruction: Reconstructed vectors, shape (B, D).
        x: True vectors, shape (B, D).
        is_target: Samples that count, shape (B,) bool; the others add nothing.

    Returns:
        A scalar >= 0.

    Example:
        Two features, errors 1 and 3 in the only sample that counts: (1 + 9) / 2.

        >>> reconstruction = torch.tensor([[1.0, 3.0], [9.0, 9.0]])
        >>> is_target = torch.tensor([True, False])
        >>> reconstruction_loss(reconstruction, torch.zeros(2, 2), is_target)
        tensor(5.)
    """
    return (reconstruction[is_target] - x[is_target]).square().sum() / reconstruction.shape[1]
