"""Entropies of predictions, by the distribution that a head's outputs stand for; in nats."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from mla_lightning.functional.precision import at_least_single


def categorical_entropies(logits: Tensor) -> Tensor:
    r"""Compute the entropy of a class: :math:`-p^\top \log p` with :math:`p` the softmax.

    Args:
        logits: Logits, shape (..., C).

    Returns:
        Entropies, shape (...), from 0 to ln C.

    Example:
        A certain prediction, and one between two classes:

        >>> categorical_entropies(torch.tensor([[100.0, 0.0], [0.0, 0.0]])).round(decimals=4)
        tensor([0.0000, 0.6931])
    """
    log_p = at_least_single(logits).log_softmax(dim=-1)
    return -(log_p.exp() * log_p).sum(dim=-1)


def bernoulli_entropies(logits: Tensor) -> Tensor:
    r"""Compute the mean entropy of L independent labels, each present with probability sigma(z).

    The entropy of a label is the cross-entropy of its probability with itself. The mean over the
    labels instead of the sum keeps it between 0 and ln 2, so that the weights by entropy do not
    become one-sided with the number of labels.

    Args:
        logits: Logits, shape (..., L).

    Returns:
        Entropies, shape (...), from 0 to ln 2.

    Example:
        One label that is certain and one that is undecided (ln 2):

        >>> bernoulli_entropies(torch.tensor([[100.0, 0.0]]))
        tensor([0.3466])
    """
    z = at_least_single(logits)
    return binary_cross_entropy_with_logits(z, z.sigmoid(), reduction="none").mean(dim=-1)


def gaussian_entropies(variance: Tensor) -> Tensor:
    r"""Compute the entropy of normal distributions: :math:`\tfrac12 \log (2 \pi e \sigma^2)`.

    Args:
        variance: Variances, of any shape; 0 counts as the smallest positive number.

    Returns:
        Entropies, of the same shape.

    Example:
        Half the deviation lowers the entropy by ln 2:

        >>> entropy = gaussian_entropies(torch.tensor([1.0, 0.25]))
        >>> (entropy[0] - entropy[1]).round(decimals=4)
        tensor(0.6931)
    """
    tiny = torch.finfo(variance.dtype).tiny
    return 0.5 * (variance.clamp_min(tiny).log() + math.log(2 * math.pi * math.e))
