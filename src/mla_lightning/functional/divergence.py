"""How far two sequences of features are apart, as TATE measures it."""

from __future__ import annotations

from torch import Tensor


def symmetric_divergence(a: Tensor, b: Tensor) -> Tensor:
    r"""Compare sequences of features by their softmaxes p and q.

    .. math:: \sum_n \mathrm{mean}_t [KL(p \| q) + KL(q \| p)]

    Args:
        a: (B, T, D).
        b: (B, T, D).

    Returns:
        A scalar, summed over the batch.
    """
    log_p, log_q = a.log_softmax(dim=-1), b.log_softmax(dim=-1)
    # KL(p|q) + KL(q|p) = sum (p - q)(log p - log q)
    both = ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(dim=-1)
    return both.mean(dim=1).sum()
