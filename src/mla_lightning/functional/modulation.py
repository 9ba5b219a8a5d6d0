"""On-the-fly modulation: how far each modality is ahead, and what its training is modulated by.

Sources: OGM-GE (CVPR 2022), discrepancy ratio and coefficient of gradients; MLB (BMVC 2024),
gradients of several losses; OPM (TPAMI 2024), probabilities of dropping features; AGM (ICCV 2023),
coefficients of adaptive modulation.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def unimodal_scores(logits: Tensor, label: Tensor) -> Tensor:
    """Sum each modality's probability of the true class over the batch.

    Args:
        logits: Each modality's own logits, shape (M, B, C).
        label: True classes, shape (B,).

    Returns:
        Scores s, shape (M,), in [0, B].

    Example:
        Two modalities, two samples: the first is sure and correct, the second undecided.

        >>> logits = torch.tensor([[[100.0, 0.0], [0.0, 100.0]], [[0.0, 0.0], [0.0, 0.0]]])
        >>> unimodal_scores(logits, torch.tensor([0, 1]))
        tensor([2., 1.])
    """
    p_MB = logits.softmax(dim=-1).gather(-1, label.expand(logits.shape[0], -1)[..., None])[..., 0]
    return p_MB.sum(dim=1)


def mean_of_others(scores: Tensor) -> Tensor:
    """Compute for each modality the mean of the others' scores.

    Args:
        scores: A number for each modality, shape (M,), M >= 2.

    Returns:
        o, shape (M,).

    Raises:
        ValueError: If there are fewer than two scores.

    Example:
        >>> mean_of_others(torch.tensor([6.0, 4.0, 2.0]))
        tensor([3., 4., 5.])
    """
    if scores.ndim != 1 or len(scores) < 2:
        raise ValueError(f"scores must be (M,) with M >= 2, got {tuple(scores.shape)}")
    return (scores.sum() - scores) / (len(scores) - 1)


def ogm_coefficients(scores: Tensor, alpha: float) -> Tensor:
    r"""Compute the factor by which each modality's encoder gradient is multiplied.

    .. math:: \rho_m = \frac{s_m}{\mathrm{mean}_{j \ne m} s_j}, \quad
              k_m = 1 - \tanh(\alpha \rho_m) \text{ if } \rho_m > 1 \text{ else } 1

    With two modalities this is the paper's ratio. For more, public codes disagree (and one damps
    audio even where no modality is ahead); the mean of the others treats all modalities alike.

    Args:
        scores: Scores s of :func:`unimodal_scores`, shape (M,), M >= 2, positive.
        alpha: Strength, >= 0.

    Returns:
        Coefficients k, shape (M,), in (0, 1].

    Raises:
        ValueError: If there are fewer than two scores or ``alpha`` is negative.

    Example:
        Only the modality that is ahead is damped, by 1 - tanh(0.5 * 2):

        >>> ogm_coefficients(torch.tensor([4.0, 2.0]), alpha=0.5)
        tensor([0.2384, 1.0000])
        >>> ogm_coefficients(torch.tensor([4.0, 2.0]), alpha=0.0)
        tensor([1., 1.])
    """
    if alpha < 0:
        raise ValueError(f"alpha must be >= 0, got {alpha}")
    ratio = scores / mean_of_others(scores)
    return torch.where(_is_ahead(scores), 1 - torch.tanh(alpha * ratio), torch.ones_like(ratio))


def _is_ahead(scores: Tensor) -> Tensor:
    """Return which ratios to the mean of the others are above 1, without their rounding errors.

    What modulates jumps at 1, and on a tie no modality is ahead.
    """
    return (scores[:, None] - scores).sum(dim=1) > 0


def opm_drop_probabilities(scores: Tensor, q_base: float, strength: float) -> Tensor:
    r"""Compute the probability with which each modality's feature is dropped.

    .. math:: \rho_m = \tanh\left(\frac{s_m}{\mathrm{mean}_{j \ne m} s_j} - 1\right), \quad
              q_m = \min(q_{base} (1 + \lambda \rho_m), 1) \text{ if } \rho_m > 0 \text{ else } 0

    Args:
        scores: Scores s of :func:`unimodal_scores`, shape (M,), M >= 2, positive.
        q_base: The probability of a modality that is hardly ahead, in [0, 1].
        strength: Strength lambda, >= 0.

    Returns:
        Probabilities q, shape (M,), in [0, 1]; that of the modality with the smallest score is 0.

    Raises:
        ValueError: If there are fewer than two scores, or a setting is out of range.

    Example:
        >>> opm_drop_probabilities(torch.tensor([24.0, 16.0]), q_base=0.5, strength=0.5)
        tensor([0.6155, 0.0000])
    """
    if not 0 <= q_base <= 1 or strength < 0:
        raise ValueError(f"q_base must be in [0, 1] and strength >= 0, got {q_base}, {strength}")
    ratio = scores / mean_of_others(scores)
    q = (q_base * (1 + strength * torch.tanh(ratio - 1))).clamp(0, 1)
    return torch.where(_is_ahead(scores), q, torch.zeros_like(q))


def opm_scale(q: Tensor, widths: Sequence[int]) -> Tensor:
    r"""Compute the factor by which features are multiplied where some are dropped.

    .. math:: \frac{1}{1 - \theta}, \quad \theta = \frac{\sum_m D_m q_m}{\sum_m D_m}

    It keeps the mean of all features together, not of each modality: those that are never dropped
    become larger.

    Args:
        q: Probabilities of :func:`opm_drop_probabilities`, shape (M,), not all 1.
        widths: Width D_m of each modality's feature.

    Returns:
        The factor, a scalar >= 1.

    Example:
        >>> opm_scale(torch.tensor([0.5, 0.0]), [2, 3])
        tensor(1.2500)
    """
    widths_M = q.new_tensor(widths)
    return 1 / (1 - (widths_M * q).sum() / widths_M.sum())


def agm_coefficients(
    losses: Tensor, levels: Tensor, alpha: float, *, rewards_leader: bool = False
) -> Tensor:
    r"""Compute the factor of the gradient that enters each modality's part of the logits.

    .. math:: r_m = \exp\Big(\mathrm{mean}_{j \ne m} \sigma_j - \sigma_m\Big), \quad
              r^*_m = \exp\Big(\mathrm{mean}_{j \ne m} \tau_j - \tau_m\Big), \quad
              \kappa_m = \exp(\alpha \min(r^*_m - r_m, 10))

    A modality that leads by more than it did so far is slowed down.

    Args:
        losses: Loss sigma of each modality's part on the batch, shape (M,), M >= 2.
        levels: Its mean tau over all earlier batches, shape (M,); 0 before the first.
        alpha: Strength, >= 0.
        rewards_leader: Whether both exponents have the other sign, so that such a modality is
            accelerated. BalanceBenchmark computes this.

    Returns:
        Coefficients kappa, shape (M,), positive.

    Raises:
        ValueError: If there are fewer than two losses or ``alpha`` is negative.

    Example:
        >>> losses, levels = torch.tensor([0.5, 1.3]), torch.tensor([0.6, 1.2])
        >>> agm_coefficients(losses, levels, alpha=1.0)
        tensor([0.6680, 1.1046])
    """
    if alpha < 0:
        raise ValueError(f"alpha must be >= 0, got {alpha}")
    sign = -1 if rewards_leader else 1
    ratio, level = ((sign * (mean_of_others(x) - x)).exp() for x in (losses, levels))
    return (alpha * (level - ratio).clamp(max=10)).exp()


def mlb_coefficients(scores: Tensor, alpha: float, beta: float | None = None) -> Tensor:
    r"""Compute the factors by which MLB slows the modality ahead and speeds up the one behind.

    .. math:: \rho_m = \frac{\mathrm{mean}_{j \ne m} s_j}{s_m}, \quad
              k_m = 1 + c_m \tanh(\alpha (\rho_m - 1)), \quad
              c_m = \beta - 1 \text{ if } \rho_m > 1 \text{ else } 1

    Scores that are 0 count as the smallest positive number.

    Args:
        scores: Each modality's mean probability of the true class, shape (M,), M >= 2, >= 0.
        alpha: Strength, >= 0.
        beta: Largest factor of a modality that is behind, >= 1; None for 2.

    Returns:
        Coefficients k, shape (M,), in (0, 2), or in (0, beta).

    Raises:
        ValueError: If there are fewer than two scores, ``alpha`` is negative or ``beta`` < 1.

    Example:
        1 - tanh(0.5) for the modality that is ahead, 1 + tanh(1) for the one behind:

        >>> mlb_coefficients(torch.tensor([0.8, 0.4]), alpha=1.0)
        tensor([0.5379, 1.7616])
        >>> mlb_coefficients(torch.tensor([0.8, 0.4]), alpha=1.0, beta=3.0)
        tensor([0.5379, 2.5232])
    """
    if alpha < 0 or (beta is not None and beta < 1):
        raise ValueError(f"alpha must be >= 0 and beta >= 1, got {alpha} and {beta}")
    scores = scores.clamp_min(torch.finfo(scores.dtype).tiny)
    change = torch.tanh(alpha * (mean_of_others(scores) / scores - 1))
    if beta is not None:
        change = torch.where(change > 0, (beta - 1) * change, change)
    return 1 + change
