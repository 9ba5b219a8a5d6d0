"""On-the-fly gradient modulation: discrepancy ratio and coefficient of each modality.

Sources: OGM-GE (CVPR 2022), discrepancy ratio and modulation coefficient; MLB (BMVC 2024), gradient
modulation with several losses.
"""

from __future__ import annotations

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
    # Equivalent to ratio > 1 without rounding errors: the factor jumps at 1, and on a tie no
    # modality may be damped.
    is_ahead = (scores[:, None] - scores).sum(dim=1) > 0
    return torch.where(is_ahead, 1 - torch.tanh(alpha * ratio), torch.ones_like(ratio))


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
