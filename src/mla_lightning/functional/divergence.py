"""Divergence between two sequences of features, as TATE measures it."""

from __future__ import annotations

from torch import Tensor


def symmetric_divergence(a: Tensor, b: Tensor) -> Tensor:
    r"""Compute the symmetric Kullback-Leibler divergence of two batches of sequences.

    With p and q the softmaxes of ``a`` and ``b`` over the features:

    .. math:: \sum_n \mathrm{mean}_t [KL(p \| q) + KL(q \| p)]

    Args:
        a: Sequences of features, shape (B, T, D).
        b: Sequences of features, shape (B, T, D).

    Returns:
        A scalar >= 0: the mean over the T steps, summed over the batch.

    Example:
        One sequence of one step, p = (1/2, 1/2) and q = (3/4, 1/4). The divergence is
        ln(3) / 4, the same in either order, and 0 for equal sequences:

        >>> import math
        >>> import torch
        >>> a = torch.tensor([[[0.5, 0.5]]]).log()
        >>> b = torch.tensor([[[0.75, 0.25]]]).log()
        >>> round(symmetric_divergence(a, b).item(), 4), round(math.log(3) / 4, 4)
        (0.2747, 0.2747)
        >>> round(symmetric_divergence(b, a).item(), 4), symmetric_divergence(a, a).item()
        (0.2747, 0.0)
    """
    log_p, log_q = a.log_softmax(dim=-1), b.log_softmax(dim=-1)
    # KL(p|q) + KL(q|p) = sum (p - q)(log p - log q)
    divergence_BT = ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(dim=-1)
    return divergence_BT.mean(dim=1).sum()
