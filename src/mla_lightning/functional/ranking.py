"""QMF: energy confidence and the loss that makes it follow each sample's history.

Source: QMF (ICML 2023), and its released code where named.
"""

from __future__ import annotations

import torch
from torch import Tensor


def energy_confidence(logits: Tensor) -> Tensor:
    """Compute the confidence of a modality's logits: logsumexp / 10, may be negative.

    Args:
        logits: Shape (B, C).

    Returns:
        Confidence, shape (B,).
    """
    return logits.logsumexp(dim=-1) / 10


def normalise_history(history: Tensor) -> Tensor:
    """Scale cumulative losses to [0, 1] over all training samples.

    Args:
        history: Shape (..., N).

    Returns:
        The same shape; zeros where all entries are equal (the released RGB-D code divides by zero
        there).
    """
    low, high = history.aminmax(dim=-1, keepdim=True)
    spread = high - low
    return (history - low) / torch.where(spread > 0, spread, torch.ones_like(spread))


def confidence_rank_loss(confidence: Tensor, history: Tensor, mode: str) -> Tensor:
    r"""Ask samples with the smaller cumulative loss for the larger confidence.

    Pairs are (i, i+1) within the batch, cyclic. With :math:`t = \mathrm{sign}(n_i - n_j)` and
    :math:`\delta = |n_i - n_j|`:

    * ``margin``: :math:`\max(0, t (c_i - c_j) + \delta)`, the ranking loss with the difference of
      the histories as margin;
    * ``released``: :math:`\max(0, t (c_i - c_j) - \delta)` and 0 for ties: turning the target's
      sign for loss histories without turning the shift made a slack of the margin.

    Args:
        confidence: c, shape (B,).
        history: n, the normalised cumulative losses of the same samples, shape (B,).
        mode: ``margin`` or ``released``.

    Returns:
        The mean loss, a scalar.

    Raises:
        ValueError: If shapes differ or ``mode`` is neither.
    """
    if confidence.shape != history.shape or confidence.ndim != 1:
        raise ValueError(
            f"confidence and history must be (B,), got {tuple(confidence.shape)} and "
            f"{tuple(history.shape)}"
        )
    if mode not in ("margin", "released"):
        raise ValueError(f"mode must be 'margin' or 'released', got {mode!r}")
    difference = history - history.roll(-1)
    target, shift = difference.sign(), difference.abs()
    ordered = target * (confidence - confidence.roll(-1))
    return (ordered + (shift if mode == "margin" else -shift)).clamp_min(0).mean()
