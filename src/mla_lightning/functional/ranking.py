"""QMF: energy confidence, and the ranking loss by each sample's training history.

Source: QMF (ICML 2023), and its released code where named.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softplus


def energy_confidence(logits: Tensor) -> Tensor:
    """Compute the confidence of a modality's logits: their logsumexp / 10, which may be negative.

    Args:
        logits: Logits of one modality, shape (B, C).

    Returns:
        Confidence, shape (B,).

    Example:
        Where one logit dominates, the confidence is a tenth of it. So three samples with the same
        predicted probabilities have three confidences:

        >>> energy_confidence(torch.tensor([[20.0, 0.0], [0.0, -20.0], [-5.0, -25.0]]))
        tensor([ 2.0000,  0.0000, -0.5000])
    """
    return logits.logsumexp(dim=-1) / 10


def joint_energy_confidence(logits: Tensor) -> Tensor:
    r"""Compute the confidence of the logits of L labels: :math:`\sum_l \log(1 + e^{z_l}) / 10`.

    The sum is the negative joint energy of all labels (JointEnergy, Wang et al., "Can
    multi-label classification networks know what they don't know?", NeurIPS 2021, equation 6).
    Each term is the logsumexp of a label's two logits, z and 0, so the confidence is that of
    :func:`energy_confidence`, with the same scale, summed over the labels.

    Args:
        logits: Logits of one modality, shape (B, L).

    Returns:
        Confidence, shape (B,), positive.

    Example:
        A label that is surely present adds a tenth of its logit, one that is surely absent nothing:

        >>> joint_energy_confidence(torch.tensor([[20.0, -20.0], [20.0, 30.0]]))
        tensor([2., 5.])
    """
    return softplus(logits).sum(dim=-1) / 10


def normalise_history(history: Tensor) -> Tensor:
    """Scale the cumulative losses of all training samples to [0, 1].

    Args:
        history: Cumulative losses, shape (..., N).

    Returns:
        The same shape; zeros where all entries are equal (the released RGB-D code divides by zero
        there).

    Example:
        >>> normalise_history(torch.tensor([[1.0, 3.0, 2.0], [5.0, 5.0, 5.0]]))
        tensor([[0.0000, 1.0000, 0.5000],
                [0.0000, 0.0000, 0.0000]])
    """
    low, high = history.aminmax(dim=-1, keepdim=True)
    spread = high - low
    return (history - low) / torch.where(spread > 0, spread, torch.ones_like(spread))


def confidence_rank_loss(confidence: Tensor, history: Tensor, mode: str) -> Tensor:
    r"""Compute a ranking loss that encourages larger confidence for smaller past losses.

    Pairs are (i, i+1) within the batch, cyclic. With :math:`t = \mathrm{sign}(n_i - n_j)` and
    :math:`\delta = |n_i - n_j|`:

    * ``margin``: :math:`\max(0, t (c_i - c_j) + \delta)`, the ranking loss with the difference of
      the histories as margin;
    * ``released``: :math:`\max(0, t (c_i - c_j) - \delta)`, and 0 for ties. The released code
      turned the sign of the target for histories of losses but not that of the shift, so its
      margin became a slack.

    Args:
        confidence: c, shape (B,).
        history: n, the normalised cumulative losses of the same samples, shape (B,).
        mode: ``margin`` or ``released``.

    Returns:
        The mean loss, a scalar >= 0.

    Raises:
        ValueError: If shapes differ or ``mode`` is neither.

    Example:
        The second sample has the larger loss (by 0.5) but also the larger confidence (by 0.75):

        >>> confidence, history = torch.tensor([0.0, 0.75]), torch.tensor([0.0, 0.5])
        >>> confidence_rank_loss(confidence, history, "margin")  # 0.75 + 0.5
        tensor(1.2500)
        >>> confidence_rank_loss(confidence, history, "released")  # 0.75 - 0.5
        tensor(0.2500)
        >>> confidence_rank_loss(confidence.flip(0), history, "margin")  # the wanted order
        tensor(0.)
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
