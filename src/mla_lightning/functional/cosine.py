"""Logits by the cosine of a feature and the weights of each class.

Source: MMCosine (ICASSP 2023).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import linear

from mla_lightning.functional.precision import at_least_single

#: The smallest norm that a vector is divided by.
SMALLEST_NORM = 1e-12


def cosine_logits(feature: Tensor, weight: Tensor, scale: float) -> Tensor:
    r"""Compute :math:`z_c = s \cos(h, W_c)`.

    The norms are at least 1e-12, so the logits of a feature of zeros are 0. Vectors that are not
    longer have no direction, and get no gradient: it would be up to 1e12 times that of the logits.

    Args:
        feature: Features h, shape (B, D).
        weight: Weights W of the classes, shape (C, D).
        scale: The largest logit s.

    Returns:
        Logits, shape (B, C), in [-s, s].

    Example:
        >>> import torch
        >>> weight = torch.tensor([[1.0, 0.0], [0.0, 2.0], [-1.0, -1.0]])
        >>> cosine_logits(torch.tensor([[3.0, 4.0]]), weight, scale=10.0)
        tensor([[ 6.0000,  8.0000, -9.8995]])
    """
    feature, weight = at_least_single(feature), at_least_single(weight)
    return scale * linear(_unit(feature), _unit(weight))


def _unit(x_ND: Tensor) -> Tensor:
    """Divide rows by their norms."""
    norm_N1 = torch.linalg.vector_norm(x_ND, dim=1, keepdim=True)
    has_direction = norm_N1 > SMALLEST_NORM
    return torch.where(has_direction, x_ND, x_ND.detach()) / norm_N1.clamp_min(SMALLEST_NORM)
