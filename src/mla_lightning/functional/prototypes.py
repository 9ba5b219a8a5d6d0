"""Class means of features as a classifier, and how far a modality is behind by it.

Source: PMR, Prototypical Modal Rebalance (CVPR 2023).
"""

from __future__ import annotations

import torch
from torch import Tensor

from mla_lightning.functional.modulation import mean_of_others
from mla_lightning.functional.precision import at_least_single


def prototype_logits(features: Tensor, prototypes: Tensor) -> Tensor:
    r"""Compute the logits of the classifier of nearest prototypes: :math:`-\|h_n - c_k\|_2`.

    Args:
        features: Features h, shape (B, D).
        prototypes: One prototype per class c, shape (C, D).

    Returns:
        Logits, shape (B, C).

    Example:
        >>> features = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
        >>> prototype_logits(features, torch.tensor([[1.0, 0.0], [3.0, 0.0]]))
        tensor([[-1.0000, -3.0000],
                [-4.4721, -4.0000]])
    """
    h, c = at_least_single(features), at_least_single(prototypes)
    # Products of matrices would be faster for many classes, but lose the digits of small distances.
    return -torch.cdist(h, c.to(h.dtype), compute_mode="donot_use_mm_for_euclid_dist")


def update_prototypes(
    new: Tensor, count: Tensor, old: Tensor, is_set: Tensor, momentum: float
) -> Tensor:
    r"""Average new class means with the earlier prototypes: :math:`(1 - \epsilon) c + \epsilon c'`.

    Args:
        new: Class means of features, shape (C, D).
        count: Number of samples of each class that they are of, shape (C,).
        old: The earlier prototypes c', shape (C, D).
        is_set: Which classes have an earlier prototype, shape (C,) bool.
        momentum: Share of the earlier prototypes, in [0, 1).

    Returns:
        Prototypes, shape (C, D): for a class without earlier prototype the new mean, for one
        without samples the earlier prototype.

    Raises:
        ValueError: If ``momentum`` is out of range.

    Example:
        The second class has no earlier prototype, the third no sample:

        >>> new = torch.tensor([[1.0, 0.0], [1.0, 0.0], [9.0, 9.0]])
        >>> old = torch.tensor([[0.0, 1.0], [9.0, 9.0], [0.0, 1.0]])
        >>> is_set = torch.tensor([True, False, True])
        >>> update_prototypes(new, torch.tensor([2, 2, 0]), old, is_set, 0.2)
        tensor([[0.8000, 0.2000],
                [1.0000, 0.0000],
                [0.0000, 1.0000]])
    """
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum must be in [0, 1), got {momentum}")
    mixed = (1 - momentum) * new + momentum * old
    mixed = torch.where(is_set[:, None], mixed, new)
    return torch.where((count > 0)[:, None], mixed, old)


def graded_coefficients(scores: Tensor) -> Tensor:
    r"""Compute how far each modality is behind the mean of the others: PMR's paper.

    .. math:: b_m = \mathrm{clip}(o_m / s_m - 1, 0, 1), \quad o_m = \mathrm{mean}_{j \ne m} s_j

    With two modalities this is the paper's coefficient; the mean of the others is our extension.

    Args:
        scores: Scores s, shape (M,), M >= 2, positive.

    Returns:
        Coefficients b, shape (M,), in [0, 1].

    Example:
        >>> graded_coefficients(torch.tensor([1.2, 0.8]))
        tensor([0.0000, 0.5000])
        >>> graded_coefficients(torch.tensor([1.2, 0.8, 1.0]))
        tensor([0.0000, 0.3750, 0.0000])
    """
    graded = (mean_of_others(scores) / scores - 1).clamp(0, 1)
    return torch.where(_is_behind(scores), graded, 0.0)


def binary_coefficients(scores: Tensor) -> Tensor:
    """Compute whether each modality is behind the mean of the others: PMR's released code.

    Args:
        scores: Scores s, shape (M,), M >= 2.

    Returns:
        1 for a modality that is behind, else 0, shape (M,); on a tie nobody is.

    Example:
        >>> binary_coefficients(torch.tensor([1.2, 0.8, 1.0]))
        tensor([0., 1., 0.])
    """
    mean_of_others(scores)  # checks the shape
    return _is_behind(scores).to(scores.dtype)


def _is_behind(scores: Tensor) -> Tensor:
    # Equivalent to being below the mean of the others, but not by the rounding of a tie.
    rounding = 8 * torch.finfo(scores.dtype).eps * scores.abs().sum()
    return (scores[:, None] - scores).sum(dim=1) < -rounding
