"""CPM-Nets: classification by inner products with the latent codes of a class."""

from __future__ import annotations

import torch
from torch import Tensor


def class_scores(
    h: Tensor, codes: Tensor, label: Tensor, num_classes: int, own: Tensor | None = None
) -> Tensor:
    r"""Average inner products with the codes of each class.

    .. math:: F_{nc} = \mathrm{mean}_{j \in c} \langle h_n, h_j \rangle

    Args:
        h: (B, K) codes to classify.
        codes: (N, K) training codes.
        label: (N,) their classes.
        num_classes: Number of classes C.
        own: (B,) the class of each row of ``h``, if these are training codes themselves: then j = n
            is left out. A class whose only member is the sample itself scores 0.

    Returns:
        (B, C).
    """
    sums = codes.new_zeros(num_classes, codes.shape[1]).index_add_(0, label, codes)
    counts = torch.bincount(label, minlength=num_classes).to(codes)
    products = h @ sums.T
    if own is None:
        return products / counts.clamp(min=1)
    mine = torch.nn.functional.one_hot(own, num_classes).to(codes)
    products = products - mine * h.square().sum(dim=1, keepdim=True)
    return products / (counts - mine).clamp(min=1)


def clustering_loss(scores: Tensor, label: Tensor) -> Tensor:
    r"""Ask the own class's score to be the largest.

    .. math:: \sum_n \max(0, \Delta_n + \max_c F_{nc} - F_{n,y_n})

    with a margin of 1 where it is not.

    Args:
        scores: (B, C).
        label: (B,).

    Returns:
        A scalar, summed over samples.
    """
    best, answer = scores.max(dim=1)
    margin = (answer != label).to(scores)
    return (margin + best - scores.gather(1, label[:, None])[:, 0]).clamp(min=0).sum()


def decoding_loss(h: Tensor, x: Tensor, weight: Tensor, bias: Tensor, present: Tensor) -> Tensor:
    r"""Sum squared errors of affine decoders: :math:`\sum_n m_n \|h_n W + b - x_n\|^2`.

    Args:
        h: (B, K) codes.
        x: (B, D) vectors; absent ones may hold anything.
        weight: (K, D).
        bias: (D,).
        present: (B,) bool.

    Returns:
        A scalar.
    """
    return (h[present] @ weight + bias - x[present]).square().sum()
