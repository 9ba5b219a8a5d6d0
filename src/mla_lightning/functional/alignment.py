"""The gap between the predictions of modalities, and the weight of the losses that close it.

Source: Learning from the modality gap (LFM, NeurIPS 2024) and its released code.
"""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor

from mla_lightning.functional.precision import at_least_single

#: Coefficients of :func:`fitted_classification_weight`, from the constant one.
FIT = (0.204623704, 3.35472727e-3, 1.22989557e-4, -2.92947416e-6, 2.23835486e-8, -5.39717505e-11)
#: Number of epochs of the training that the polynomial was fitted to.
FITTED_EPOCHS = 200


def js_divergence(first: Tensor, second: Tensor) -> Tensor:
    r"""Compute the Jensen-Shannon divergence of two predictions, averaged over the batch.

    :math:`\frac12 KL(p \| m) + \frac12 KL(q \| m)` with the mean :math:`m = (p + q) / 2` of the two
    softmaxes.

    Args:
        first: Logits (B, C).
        second: Logits (B, C).

    Returns:
        A scalar, from 0 to ln 2.

    Example:
        >>> js_divergence(torch.tensor([[2.0, 0.0, 0.0]]), torch.tensor([[0.0, 1.0, 0.0]]))
        tensor(0.1857)
    """
    log_p, log_q, log_m = _log_probabilities(first, second)
    terms = log_p.exp() * (log_p - log_m) + log_q.exp() * (log_q - log_m)
    return terms.sum(dim=1).mean() / 2


def reversed_js_divergence(first: Tensor, second: Tensor) -> Tensor:
    r"""Compute :math:`\frac12 KL(m \| p) + \frac12 KL(m \| q)`, as LFM's released code does.

    Args:
        first: Logits (B, C).
        second: Logits (B, C).

    Returns:
        A scalar >= 0, without an upper bound.

    Example:
        >>> reversed_js_divergence(torch.tensor([[2.0, 0.0, 0.0]]), torch.tensor([[0.0, 1.0, 0.0]]))
        tensor(0.2192)
    """
    log_p, log_q, log_m = _log_probabilities(first, second)
    return (log_m.exp() * (log_m - (log_p + log_q) / 2)).sum(dim=1).mean()


def _log_probabilities(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    log_p, log_q = (at_least_single(z).log_softmax(dim=1) for z in (first, second))
    return log_p, log_q, torch.logaddexp(log_p, log_q) - torch.log(log_p.new_tensor(2.0))


#: Name -> divergence.
DIVERGENCES = {"js": js_divergence, "released": reversed_js_divergence}


def modality_gap(logits: Tensor, divergence: str = "js") -> Tensor:
    """Compute the mean divergence over all pairs of modalities.

    Args:
        logits: Each modality's own logits, shape (M, B, C), M >= 2.
        divergence: ``js`` or ``released``; see :func:`js_divergence` and
            :func:`reversed_js_divergence`.

    Returns:
        A scalar.

    Example:
        >>> logits = torch.tensor([[[2.0, 0.0, 0.0]], [[0.0, 1.0, 0.0]], [[0.0, 0.0, 1.5]]])
        >>> modality_gap(logits)
        tensor(0.1860)
    """
    pairs = combinations(logits, 2)
    return torch.stack([DIVERGENCES[divergence](first, second) for first, second in pairs]).mean()


def fitted_classification_weight(position: float, *, clip: bool = True) -> float:
    """Compute the weight of the classification loss by the polynomial of LFM's released code.

    Args:
        position: The epoch of a training of 200, from 0 to 199; the fit ends there. It may be a
            fraction: epoch e of a training of E epochs is at the position 200 e / E.
        clip: Whether the weight is at most 1. The polynomial exceeds 1 at 177 to 188.

    Returns:
        The weight; that of the alignment is 1 minus it.

    Example:
        >>> [round(fitted_classification_weight(position), 3) for position in (0, 50, 100, 199)]
        [0.205, 0.437, 0.539, 0.916]
        >>> round(fitted_classification_weight(183, clip=False), 3)
        1.011
    """
    weight = sum(coefficient * position**power for power, coefficient in enumerate(FIT))
    return min(max(weight, 0.0), 1.0) if clip else weight
