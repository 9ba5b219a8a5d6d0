"""On-the-fly gradient modulation: how far each modality is ahead, and how much to damp it.

Source: OGM-GE (CVPR 2022), discrepancy ratio and modulation coefficient.
"""

from __future__ import annotations

import torch
from torch import Tensor


def unimodal_scores(logits: Tensor, label: Tensor) -> Tensor:
    """Sum each modality's probability of the true class over the batch.

    Args:
        logits: Each modality's own logits, shape (M, B, C).
        label: Labels, shape (B,).

    Returns:
        Scores s, shape (M,).
    """
    p_MB = logits.softmax(dim=-1).gather(-1, label.expand(logits.shape[0], -1)[..., None])[..., 0]
    return p_MB.sum(dim=1)


def ogm_coefficients(scores: Tensor, alpha: float) -> Tensor:
    r"""Compute the factor on each modality's encoder gradient.

    .. math:: \rho_m = \frac{s_m}{\mathrm{mean}_{j \ne m} s_j}, \quad
              k_m = 1 - \tanh(\alpha \rho_m) \text{ if } \rho_m > 1 \text{ else } 1

    With two modalities this is the paper's ratio. For more, public codes disagree (and one damps
    audio even where nothing leads); the mean of the others treats all modalities alike.

    Args:
        scores: s, shape (M,), M >= 2, positive.
        alpha: Strength, >= 0.

    Returns:
        Coefficients, shape (M,), in (0, 1].

    Raises:
        ValueError: If there are fewer than two scores or ``alpha`` is negative.
    """
    if scores.ndim != 1 or len(scores) < 2:
        raise ValueError(f"scores must be (M,) with M >= 2, got {tuple(scores.shape)}")
    if alpha < 0:
        raise ValueError(f"alpha must be >= 0, got {alpha}")
    ratio = scores * (len(scores) - 1) / (scores.sum() - scores)
    # rho > 1, free of rounding: at a tie nothing leads, and the factor jumps at 1.
    leads = (scores[:, None] - scores).sum(dim=1) > 0
    return torch.where(leads, 1 - torch.tanh(alpha * ratio), torch.ones_like(ratio))
