"""Growth of Fisher information over epochs, and the pull that holds a modality back.

Source: InfoReg (CVPR 2025), prime learning window and adaptive regulation.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mla_lightning.functional.modulation import mean_of_others


def information_growth(traces: Tensor) -> Tensor:
    r"""Compute the relative growth of the Fisher information's trace over a window of w epochs.

    .. math:: k = \frac{t_{e-1} - t_{e-1-w}}{\sum_{i=e-w}^{e-1} t_i}

    Args:
        traces: The traces t of the last w + 1 epochs, oldest first, zeros before the first epoch,
            shape (..., w + 1).

    Returns:
        Growth k, shape (...); 0 where there is no information at all.

    Example:
        Windows of 3 epochs, after epochs with the traces 8, 7 and 6:

        >>> information_growth(torch.tensor([[0.0, 0.0, 0.0, 8.0], [0.0, 8.0, 7.0, 6.0]]))
        tensor([1.0000, 0.2857])
    """
    sum_of_window = traces[..., 1:].sum(dim=-1)
    growth = (traces[..., -1] - traces[..., 0]) / torch.where(sum_of_window == 0, 1, sum_of_window)
    return torch.where(sum_of_window == 0, 0, growth)


def regulation_strengths(scores: Tensor, beta: float) -> Tensor:
    r"""Compute how strongly each modality is pulled back to its weights at the epoch's start.

    .. math:: \alpha_m = \exp(\beta \tanh \Delta_m) \text{ if } \Delta_m > 0 \text{ else } 0,
              \quad \Delta_m = s_m - \mathrm{mean}_{j \ne m} s_j

    With two modalities this is the paper's strength; the mean of the others is our extension.

    Args:
        scores: Scores s, shape (M,), M >= 2.
        beta: Influence of the lead, >= 0.

    Returns:
        Strengths, shape (M,); 0 for modalities that do not lead.

    Raises:
        ValueError: If there are fewer than two scores or ``beta`` is negative.

    Example:
        >>> regulation_strengths(torch.tensor([0.5, 0.2]), beta=1.0)
        tensor([1.3382, 0.0000])
    """
    if beta < 0:
        raise ValueError(f"beta must be >= 0, got {beta}")
    strength = (beta * (scores - mean_of_others(scores)).tanh()).exp()
    # Equivalent to a positive lead without its rounding: the strength jumps from 0 to 1 there.
    return torch.where((scores[:, None] - scores).sum(dim=1) > 0, strength, 0.0)
