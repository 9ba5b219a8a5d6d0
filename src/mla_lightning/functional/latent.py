"""CPM-Nets: classification by inner products with the latent codes of each class."""

from __future__ import annotations

import torch
from torch import Tensor


def class_scores(
    h: Tensor, codes: Tensor, label: Tensor, num_classes: int, own_label: Tensor | None = None
) -> Tensor:
    r"""Average the inner products of codes with the training codes of each class.

    .. math:: F_{nc} = \mathrm{mean}_{j \in c} \langle h_n, h_j \rangle

    Args:
        h: Codes to classify, shape (B, K).
        codes: Training codes, shape (N, K).
        label: Labels of the training codes, shape (N,).
        num_classes: Number of classes C.
        own_label: Labels of the rows of ``h``, shape (B,), if these are training codes themselves:
            each is then left out of its own class's mean (j = n). A class whose only member is the
            sample itself scores 0.

    Returns:
        Scores F, shape (B, C). A class without any training code has the lowest number of the
        precision, so that it is never predicted.

    Example:
        >>> codes = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
        >>> label = torch.tensor([0, 0, 1])
        >>> class_scores(torch.tensor([[1.0, 1.0]]), codes, label, num_classes=2)
        tensor([[2., 4.]])

        For training codes, the product of a code with itself does not count:

        >>> class_scores(codes, codes, label, num_classes=2)
        tensor([[ 2.,  0.],
                [ 6.,  0.],
                [ 0., 16.]])
        >>> class_scores(codes, codes, label, num_classes=2, own_label=label)
        tensor([[3., 0.],
                [3., 0.],
                [0., 0.]])

        A third class, without a code, is not predicted even where all others score below 0:

        >>> class_scores(-torch.ones(1, 2), codes, label, num_classes=3)
        tensor([[-2.0000e+00, -4.0000e+00, -3.4028e+38]])
    """
    sums = codes.new_zeros(num_classes, codes.shape[1]).index_add_(0, label, codes)
    counts = torch.bincount(label, minlength=num_classes).to(codes)
    products = h @ sums.T
    lowest = torch.finfo(products.dtype).min
    if own_label is None:
        return (products / counts.clamp(min=1)).masked_fill(counts == 0, lowest)
    is_own_class = torch.nn.functional.one_hot(own_label, num_classes).to(codes)
    products = products - is_own_class * h.square().sum(dim=1, keepdim=True)
    means = products / (counts - is_own_class).clamp(min=1)
    return means.masked_fill(counts == 0, lowest)


def clustering_loss(scores: Tensor, label: Tensor) -> Tensor:
    r"""Sum a hinge loss that asks the true class's score to be the largest.

    .. math:: \sum_n \max(0, \Delta_n + \max_c F_{nc} - F_{n,y_n})

    The margin :math:`\Delta_n` is 1 where the predicted class is wrong, and 0 where it is correct.

    Args:
        scores: Scores F of the classes, shape (B, C).
        label: True classes y, shape (B,).

    Returns:
        A scalar >= 0, summed over the batch.

    Example:
        The first sample is correct and adds 0; the second is wrong by 2 and adds 1 + 2.

        >>> scores = torch.tensor([[5.0, 1.0], [4.0, 2.0]])
        >>> clustering_loss(scores, torch.tensor([0, 1]))
        tensor(3.)
    """
    best, prediction = scores.max(dim=1)
    margin = (prediction != label).to(scores)
    return (margin + best - scores.gather(1, label[:, None])[:, 0]).clamp(min=0).sum()


def decoding_loss(h: Tensor, x: Tensor, weight: Tensor, bias: Tensor, present: Tensor) -> Tensor:
    r"""Sum the squared errors of an affine decoder: :math:`\sum_n m_n \|h_n W + b - x_n\|^2`.

    Args:
        h: Codes, shape (B, K).
        x: Vectors of one modality, shape (B, D); absent ones may hold anything.
        weight: W, shape (K, D).
        bias: b, shape (D,).
        present: Which samples have the modality (m), shape (B,) bool.

    Returns:
        A scalar >= 0.

    Example:
        The decoder doubles the code. The modality is absent in the second sample, which adds 0.

        >>> h = torch.tensor([[1.0], [1.0]])
        >>> x = torch.tensor([[5.0], [float("nan")]])
        >>> present = torch.tensor([True, False])
        >>> decoding_loss(h, x, weight=torch.tensor([[2.0]]), bias=torch.zeros(1), present=present)
        tensor(9.)
    """
    return (h[present] @ weight + bias - x[present]).square().sum()
