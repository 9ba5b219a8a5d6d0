"""Weights of classes in the loss, by how often they occur in the training split."""

from __future__ import annotations

import torch
from torch import Tensor


def balanced_class_weights(label: Tensor, num_classes: int) -> Tensor:
    r"""Compute weights with which every class counts the same: :math:`w_c = N / (C n_c)`.

    Their mean over the samples is 1, so learning rates keep their meaning (King and Zeng 2001;
    scikit-learn's ``class_weight="balanced"``).

    Args:
        label: Classes (N,) of the training samples.
        num_classes: Number of classes C.

    Returns:
        Weights (C,); 1 for a class that does not occur.

    Example:
        >>> balanced_class_weights(torch.tensor([0, 0, 0, 1]), 2)
        tensor([0.6667, 2.0000])
    """
    counts = torch.bincount(label, minlength=num_classes).double()
    weights = len(label) / (num_classes * counts)
    return torch.where(counts > 0, weights, 1.0).float()


def balanced_label_weights(label: Tensor) -> Tensor:
    r"""Compute weights with which a label's presence counts as much as its absence.

    :math:`w_l = (N - n_l) / n_l` with :math:`n_l` the samples that have the label.

    Args:
        label: Labels (N, L) of 0 and 1 of the training samples.

    Returns:
        Weights (L,); 1 for a label that no sample or every sample has.

    Example:
        >>> balanced_label_weights(torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
        tensor([1., 3.])
    """
    counts = label.double().sum(dim=0)
    weights = (len(label) - counts) / counts
    is_mixed = (counts > 0) & (counts < len(label))
    return torch.where(is_mixed, weights, 1.0).float()
