"""Adaptively masked subnetworks: how much of an encoder is updated, and which part of it.

Source: AMSS (TPAMI 2025), mutual-information rate, sampling by importance, and its correction.
"""

from __future__ import annotations

import torch
from torch import Tensor


def label_entropy(shares: Tensor, *, released: bool = False) -> Tensor:
    r"""Compute the entropy of the classes of a batch, in nats.

    Args:
        shares: Share of each class, shape (C,), adding up to 1.
        released: Whether to compute the released code's number instead: the cross-entropy of the
            shares with a softmax of the shares.

    Returns:
        The entropy, a scalar.

    Example:
        >>> shares = torch.tensor([0.5, 0.25, 0.25])
        >>> label_entropy(shares), label_entropy(shares, released=True)
        (tensor(1.0397), tensor(1.0641))
    """
    if released:
        return -(shares * shares.log_softmax(dim=0)).sum()
    return torch.special.entr(shares).sum()


def keep_ratios(
    losses: Tensor,
    entropy: Tensor | float,
    feature_entropies: Tensor,
    temperature: float = 0.2,
    offset: float = 0.5,
) -> Tensor:
    r"""Compute the share of each modality's encoder that is updated: the stronger, the smaller.

    .. math:: u_m = \frac{-\ell_m + H_Y + c}{H_m}, \quad
              \mathrm{keep}_m = \mathrm{clip}(1 - \mathrm{softmax}(u / T)_m, 0.1, 0.9)

    If any numerator is not positive, all shares are 1/2.

    Args:
        losses: Cross-entropy of each modality's own logits, shape (M,), M >= 2.
        entropy: Entropy of the labels :math:`H_Y`.
        feature_entropies: Mean entropy of a softmax over each modality's feature, shape (M,).
        temperature: T, > 0.
        offset: c.

    Returns:
        Shares, shape (M,), in [0.1, 0.9].

    Example:
        The first modality has the smaller loss:

        >>> keep_ratios(torch.tensor([1.2, 1.6]), 1.7918, torch.tensor([5.0, 4.0]))
        tensor([0.4435, 0.5565])
        >>> keep_ratios(torch.tensor([1.2, 2.6]), 1.7918, torch.tensor([5.0, 4.0]))
        tensor([0.5000, 0.5000])
    """
    information = entropy + offset - losses
    eps = torch.finfo(feature_entropies.dtype).eps
    rates = information / feature_entropies.clamp_min(eps)
    ratios = (1 - (rates / temperature).softmax(dim=0)).clamp(0.1, 0.9)
    return torch.where((information > 0).all(), ratios, torch.full_like(ratios, 0.5))


def subnetwork_factors(
    importance: Tensor, keep: Tensor | float, uniform: Tensor, *, unbiased: bool = False
) -> Tensor:
    r"""Draw which filters are updated, without replacement and by importance.

    The probability of filter f in the first draw is :math:`\pi_f`, its share of the importance.

    Args:
        importance: Importance of each filter, >= 0, shape (..., n); each row is drawn for itself.
        keep: Share of the filters that is drawn; their number is rounded up.
        uniform: Random numbers in [0, 1), of the same shape.
        unbiased: Whether a drawn filter has the factor :math:`1 / (\pi_f + 1/n)` instead of 1
            (AMSS+).

    Returns:
        The factor of each filter, of the same shape; 0 for those that are not drawn.

    Example:
        Filters without importance are drawn last:

        >>> importance, uniform = torch.tensor([4.0, 1.0, 0.0, 3.0]), torch.rand(4)
        >>> subnetwork_factors(importance, 0.75, uniform)
        tensor([1., 1., 0., 1.])
        >>> subnetwork_factors(importance, 1.0, uniform, unbiased=True)
        tensor([1.3333, 2.6667, 4.0000, 1.6000])
    """
    num = importance.shape[-1]
    total = importance.sum(dim=-1, keepdim=True)
    even = torch.full_like(importance, 1 / num)
    share = torch.where(total > 0, importance / total, even)
    # The largest of u^(1/share) are a draw without replacement (Efraimidis & Spirakis, 2006).
    order = (uniform.log() / share).argsort(dim=-1, descending=True, stable=True)
    is_drawn = order.argsort(dim=-1) < torch.as_tensor(num * keep).ceil()
    factor = 1 / (share + 1 / num) if unbiased else torch.ones_like(share)
    return torch.where(is_drawn, factor, torch.zeros_like(factor))
