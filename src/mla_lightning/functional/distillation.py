"""Distillation of features and logits from frozen unimodal teachers.

Sources: Uni-Modal Teacher (ICML 2023) and G2D (ICCV 2025).
"""

from __future__ import annotations

import torch
from torch import Tensor

from mla_lightning.functional.precision import at_least_single


def feature_distillation(features: Tensor, teacher: Tensor) -> Tensor:
    """Compute the mean squared distance of features to a teacher's, over samples and features.

    Args:
        features: The student's features, shape (B, D).
        teacher: The teacher's features, of the same shape.

    Returns:
        The mean over all elements, a scalar.

    Example:
        >>> feature_distillation(torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 4.0]]))
        tensor(2.5000)
    """
    return (at_least_single(features) - at_least_single(teacher)).square().mean()


def logit_distillation(logits: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    r"""Compute the divergence of predictions from a teacher's, softened by a temperature.

    .. math:: T^2 \, \mathrm{KL}(\mathrm{softmax}(z^T / T) \,\|\, \mathrm{softmax}(z / T))

    Args:
        logits: The student's logits z, shape (B, C).
        teacher: The teacher's logits z^T, of the same shape.
        temperature: T, > 0.

    Returns:
        The mean over samples, a scalar.

    Raises:
        ValueError: If the temperature is not positive.

    Example:
        >>> z, teacher = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
        >>> logit_distillation(z, teacher), logit_distillation(z, teacher, temperature=2.0)
        (tensor(0.4621), tensor(0.4898))
    """
    if temperature <= 0:
        raise ValueError(f"temperature must be > 0, got {temperature}")
    log_q = (at_least_single(logits) / temperature).log_softmax(dim=-1)
    log_p = (at_least_single(teacher) / temperature).log_softmax(dim=-1)
    return temperature**2 * (log_p.exp() * (log_p - log_q)).sum(dim=-1).mean()


def learning_modalities(scores: Tensor, num_ended: int) -> Tensor:
    """Return which encoders learn while weaker modalities lead: the weakest first, one by one.

    In the first window only the weakest modality's encoder learns, in the second only the second
    weakest, and so on; after M - 1 windows all do. With two modalities the stronger one is switched
    off in one window. Modalities of equal scores learn together, so nothing is switched off if all
    are equal.

    Args:
        scores: The teachers' scores, shape (M,); larger is stronger.
        num_ended: Number of windows that have ended.

    Returns:
        Shape (M,), bool, true for encoders that learn.

    Raises:
        ValueError: If there are fewer than two scores, or ``num_ended`` is negative.

    Example:
        >>> scores = torch.tensor([0.6, 0.4, 0.5])
        >>> for num_ended in range(3):
        ...     print(learning_modalities(scores, num_ended))
        tensor([False,  True, False])
        tensor([False, False,  True])
        tensor([True, True, True])
    """
    if scores.ndim != 1 or len(scores) < 2:
        raise ValueError(f"scores must be (M,) with M >= 2, got {tuple(scores.shape)}")
    if num_ended < 0:
        raise ValueError(f"num_ended must be >= 0, got {num_ended}")
    if num_ended >= len(scores) - 1:
        return torch.ones_like(scores, dtype=torch.bool)
    num_weaker = (scores[None] < scores[:, None]).sum(dim=1)
    num_at_most = (scores[None] <= scores[:, None]).sum(dim=1)
    return (num_weaker <= num_ended) & (num_ended < num_at_most)


def dominant_factors(scores: Tensor, dominant: float, others: float) -> Tensor:
    """Compute the factors of the encoders' gradients that let the best modality lead.

    Args:
        scores: The teachers' scores, shape (M,); larger is better.
        dominant: Factor of the best modality, the first one of equals.
        others: Factor of all others.

    Returns:
        Factors, shape (M,).

    Example:
        >>> dominant_factors(torch.tensor([0.60, 0.55, 0.62]), 1.5, 0.7)
        tensor([0.7000, 0.7000, 1.5000])
    """
    factors = torch.full_like(scores, others)
    factors[int(scores.argmax())] = dominant
    return factors
