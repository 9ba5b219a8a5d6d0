"""Distance between the distributions of two batches of features."""

from __future__ import annotations

from torch import Tensor


def central_moment_discrepancy(x1: Tensor, x2: Tensor, num_moments: int = 5) -> Tensor:
    r"""Compute the distance between the means and central moments of two batches of features.

    .. math:: \|\bar x_1 - \bar x_2\|_2
              + \sum_{k=2}^{K} \|E(x_1 - \bar x_1)^k - E(x_2 - \bar x_2)^k\|_2

    Source: Zellinger et al. 2017. As in IF-MMIN, the scaling by the range of the features is left
    out. The gradient of a norm is undefined at zero; here it is zero there.

    Args:
        x1: Features, shape (B1, D).
        x2: Features, shape (B2, D).
        num_moments: Number of moments K, at least 1.

    Returns:
        A scalar >= 0.

    Raises:
        ValueError: If ``num_moments`` is below 1 or the widths differ.

    Example:
        One feature with means 1 and 3, variances 1 and 4; all third moments are 0:

        >>> import torch
        >>> x1, x2 = torch.tensor([[0.0], [2.0]]), torch.tensor([[1.0], [5.0]])
        >>> [central_moment_discrepancy(x1, x2, k).item() for k in (1, 2, 3)]
        [2.0, 5.0, 5.0]
    """
    if num_moments < 1:
        raise ValueError(f"num_moments must be at least 1, got {num_moments}")
    if x1.shape[1] != x2.shape[1]:
        raise ValueError(
            f"features of both batches must have the same width, got widths {x1.shape[1]} and "
            f"{x2.shape[1]}"
        )
    mean1, mean2 = x1.mean(dim=0), x2.mean(dim=0)
    centred1, centred2 = x1 - mean1, x2 - mean2
    distance = _norm(mean1 - mean2)
    for power in range(2, num_moments + 1):
        difference = centred1.pow(power).mean(dim=0) - centred2.pow(power).mean(dim=0)
        distance = distance + _norm(difference)
    return distance


def _norm(vector: Tensor) -> Tensor:
    # The gradient of torch's norm at zero is zero; that of a square root is not finite.
    return vector.norm()
