"""Distance between the distributions of two batches of features."""

from __future__ import annotations

from torch import Tensor


def central_moment_discrepancy(x1: Tensor, x2: Tensor, num_moments: int = 5) -> Tensor:
    r"""Compare means and central moments feature by feature (Zellinger et al. 2017).

    .. math:: \|\bar x_1 - \bar x_2\|_2
              + \sum_{k=2}^{K} \|E(x_1 - \bar x_1)^k - E(x_2 - \bar x_2)^k\|_2

    As in IF-MMIN, without the scaling by the features' range that the original has. The gradient
    of a norm is undefined at zero; here it is zero there.

    Args:
        x1: Features (B1, D).
        x2: Features (B2, D).
        num_moments: K, at least 1.

    Returns:
        A number >= 0.

    Raises:
        ValueError: If ``num_moments`` is below 1 or the widths differ.
    """
    if num_moments < 1:
        raise ValueError(f"num_moments must be at least 1, got {num_moments}")
    if x1.shape[1] != x2.shape[1]:
        raise ValueError(f"the widths differ: {x1.shape[1]} and {x2.shape[1]}")
    mean1, mean2 = x1.mean(dim=0), x2.mean(dim=0)
    centred1, centred2 = x1 - mean1, x2 - mean2
    distance = _norm(mean1 - mean2)
    for power in range(2, num_moments + 1):
        difference = centred1.pow(power).mean(dim=0) - centred2.pow(power).mean(dim=0)
        distance = distance + _norm(difference)
    return distance


def _norm(vector: Tensor) -> Tensor:
    # torch's own norm: its subgradient at zero is zero, where a square root's is not finite.
    return vector.norm()
