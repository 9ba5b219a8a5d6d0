"""Certainty of predictions: how far they are from all classes being equally probable.

Source: Data Remixing (ICML 2025), the divergence by which samples are assigned to modalities.
"""

from __future__ import annotations

from torch import Tensor

from mla_lightning.functional.precision import at_least_single


def prediction_certainty(logits: Tensor) -> Tensor:
    r"""Compute the divergence of each prediction from the uniform distribution, in bits.

    .. math:: \kappa = \sum_c p_c \log_2 (C \, p_c)

    As in the released code, probabilities below 1e-9 count as 1e-9.

    Args:
        logits: Logits (..., C).

    Returns:
        Certainties (...), from 0 for equal probabilities to log2 C.

    Example:
        >>> import torch
        >>> prediction_certainty(torch.tensor([[0.7, 0.2, 0.1], [0.4, 0.3, 0.3]]).log())
        tensor([0.4282, 0.0140])
    """
    p = at_least_single(logits).softmax(dim=-1).clamp(min=1e-9)
    return (p * (p * p.shape[-1]).log2()).sum(dim=-1)
