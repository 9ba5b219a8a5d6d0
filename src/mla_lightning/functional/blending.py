"""Weights of losses by overfitting and generalisation.

Source: Gradient-Blending (CVPR 2020), the overfitting-to-generalisation ratio.
"""

from __future__ import annotations

from torch import Tensor


def blending_weights(
    train_before: Tensor, train_after: Tensor, held_out_before: Tensor, held_out_after: Tensor
) -> Tensor:
    r"""Compute each loss's weight: what it gained on new samples, per squared overfitting.

    .. math:: G = L^V_0 - L^V_n, \quad \Delta O = (L^V_n - L^T_n) - (L^V_0 - L^T_0), \quad
              w \propto \frac{\max(G, 0)}{\Delta O^2 + 10^{-8}}

    with the losses :math:`L^T` on training samples and :math:`L^V` on held-out ones, before (0) and
    after (n) some training. The weights add up to 1; if no loss has gained anything, they are
    equal.

    Args:
        train_before: Losses on training samples before, shape (K,).
        train_after: Those after.
        held_out_before: Losses on held-out samples before, shape (K,).
        held_out_after: Those after.

    Returns:
        Weights w, shape (K,).

    Example:
        The first loss gains more on new samples and overfits more; the third gains nothing:

        >>> import torch
        >>> before = torch.tensor([1.8, 1.8, 1.8])
        >>> train_after = torch.tensor([0.8, 1.4, 0.8])
        >>> weights = blending_weights(before, train_after, before, torch.tensor([1.3, 1.6, 1.9]))
        >>> weights
        tensor([0.2857, 0.7143, 0.0000])
    """
    gain = (held_out_before - held_out_after).clamp(min=0)
    overfitting = (held_out_after - train_after) - (held_out_before - train_before)
    weights = gain / (overfitting.square() + 1e-8)
    total = weights.sum()
    return weights / total if total > 0 else weights.new_full(weights.shape, 1 / len(weights))
