"""Classifier-guided gradient modulation: coefficients, and the loss of the direction.

Source: CGGM (NeurIPS 2024).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


def cggm_coefficients(
    changes: Tensor, bounds: Sequence[float] | None = None, *, unit: Tensor | float = 1.0
) -> Tensor:
    r"""Compute the share of the progress that is not a modality's own.

    .. math:: k_m = 1 - \frac{\Delta_m}{\sum_j \Delta_j + 10^{-8}}

    The coefficients add up to M - 1. Where progress and regress cancel out they have no limits, and
    their signs depend on whether the sum is exactly 0. In single precision the changes of
    accuracies are only known to about 3e-8, which can make it negative; so give whole numbers, and
    what one of them is worth as ``unit``.

    Args:
        changes: Change of the accuracy of each modality's classifier, shape (M,), as a multiple of
            ``unit``.
        bounds: Lowest and highest coefficient; None for no bounds.
        unit: The change that is 1, > 0.

    Returns:
        Coefficients k, shape (M,); 1 where no accuracy changes.

    Example:
        >>> import torch
        >>> cggm_coefficients(torch.tensor([0.02, 0.06]))
        tensor([0.7500, 0.2500])
        >>> cggm_coefficients(torch.tensor([0.02, -0.05]), bounds=(0.0, 2.0))
        tensor([1.6667, 0.0000])

        Of 100 samples the first classifier gets 17 more right, and the second 17 fewer:

        >>> cggm_coefficients(torch.tensor([17, -17]), bounds=(0.0, 2.0), unit=0.01)
        tensor([0., 2.])
    """
    k = 1 - changes / (changes.sum() + 1e-8 / unit)
    return k if bounds is None else k.clamp(*bounds)


def direction_loss(coefficients: Tensor, cosines: Tensor) -> Tensor:
    r"""Compute how far the fused head points from where the classifiers point.

    .. math:: \frac1M \Big(\sum_m |k_m| - \sum_m k_m \cos_m\Big)

    Args:
        coefficients: Coefficients k, shape (M,).
        cosines: Cosine between the fused head and each modality's classifier, shape (M,).

    Returns:
        The loss, a scalar >= 0.

    Example:
        >>> import torch
        >>> direction_loss(torch.tensor([0.75, 0.25]), torch.tensor([0.2, 0.6]))
        tensor(0.3500)
    """
    return (coefficients.abs() - coefficients * cosines).mean()
