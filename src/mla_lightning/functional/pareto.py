"""Pareto integration of the joint and the unimodal gradient of an encoder.

Source: MMPareto (ICML 2024), gradients of innocent unimodal assistance.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mla_lightning.functional.precision import at_least_single


def pareto_weight(joint: Sequence[Tensor], unimodal: Sequence[Tensor]) -> Tensor:
    r"""Compute the weight of the joint gradient g beside the unimodal gradient u.

    .. math:: c = \frac12 \text{ if } g^\top u > 0, \text{ else }
              \frac{\|u\|^2 - g^\top u}{\|g\|^2 + \|u\|^2 - 2 g^\top u}

    In a conflict :math:`c g + (1 - c) u` is the shortest vector between both; a step against it
    lowers both losses.

    Args:
        joint: g, as one tensor for each parameter.
        unimodal: u, of the same shapes.

    Returns:
        c, a scalar in [0, 1]; 1/2 if both are 0.

    Example:
        >>> g, u = [torch.tensor([1.0, 2.0])], [torch.tensor([-2.0, 0.5])]
        >>> pareto_weight(g, u)
        tensor(0.4667)
        >>> pareto_weight(g, g)  # no conflict
        tensor(0.5000)
    """
    gg, gu, uu = _dot(joint, joint), _dot(joint, unimodal), _dot(unimodal, unimodal)
    distance = gg + uu - 2 * gu
    has_conflict = (gu <= 0) & (distance > 0)
    weight = (uu - gu) / torch.where(has_conflict, distance, torch.ones_like(distance))
    return torch.where(has_conflict, weight, torch.full_like(weight, 0.5))


def pareto_gradients(
    total: Sequence[Tensor],
    unimodal: Sequence[Tensor],
    gamma: float = 1.5,
    *,
    per_tensor: bool = True,
) -> list[Tensor]:
    r"""Combine the joint gradient g and the unimodal gradient u of an encoder.

    .. math:: d = 2 c g + 2 (1 - c) u, \quad
              d_t \leftarrow \gamma d_t \max(1, \|(g + u)_t\| / \|d_t\|)

    with c of :func:`pareto_weight`, which is one number for the encoder. Without a conflict d is
    the sum g + u itself, to the last bit.

    Args:
        total: The sum g + u, as one tensor for each parameter.
        unimodal: u, of the same shapes.
        gamma: Factor of the length, > 0.
        per_tensor: Whether the length of each parameter's gradient is restored apart, as in the
            released code; else that of the whole encoder's.

    Returns:
        The gradient of each parameter, in the given precision. Where d is 0 it stays 0.

    Example:
        >>> g, u = torch.tensor([1.0, 2.0]), torch.tensor([2.0, 0.5])
        >>> pareto_gradients([g + u], [u])[0]  # no conflict: 1.5 times the sum
        tensor([4.5000, 3.7500])
        >>> u = torch.tensor([-2.0, 0.5])
        >>> pareto_gradients([g + u], [u])[0]
        tensor([-1.8062,  3.6125])
    """
    weight = pareto_weight([s - u for s, u in zip(total, unimodal, strict=True)], unimodal)
    combined = [
        2 * weight * s + 2 * (1 - 2 * weight) * u for s, u in zip(total, unimodal, strict=True)
    ]
    if per_tensor:
        factors = [_restored_length([s], [d]) for s, d in zip(total, combined, strict=True)]
    else:
        factors = [_restored_length(total, combined)] * len(combined)
    return [
        (d * (gamma * factor)).to(s.dtype)
        for s, d, factor in zip(total, combined, factors, strict=True)
    ]


def _restored_length(total: Sequence[Tensor], combined: Sequence[Tensor]) -> Tensor:
    """Return the factor by which a vector becomes at least as long as another."""
    before, after = _dot(total, total).sqrt(), _dot(combined, combined).sqrt()
    ratio = before / torch.where(after > 0, after, torch.ones_like(after))
    return torch.where(after > 0, ratio.clamp_min(1.0), torch.ones_like(ratio))


def _dot(one: Sequence[Tensor], other: Sequence[Tensor]) -> Tensor:
    products = [
        (at_least_single(a) * at_least_single(b)).sum() for a, b in zip(one, other, strict=True)
    ]
    return torch.stack(products).sum()
