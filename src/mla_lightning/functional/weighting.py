"""Test-time weights of the modalities and the fusion of their logits.

Notation: ``z_MBC`` logits of M modalities, B samples, C classes; weights (M, B).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def entropy_weights(logits: Tensor, present: Tensor | None = None) -> Tensor:
    r"""Weight each sample's modalities by how sure they are (dynamic fusion).

    .. math:: \lambda_m = \frac{\exp(\max_j e_j - e_m)}{\sum_k \exp(\max_j e_j - e_k)}, \quad
              e_m = -p_m^\top \log p_m

    The maximum cancels: this is a softmax over modalities of the negative entropy.

    Args:
        logits: Logits, shape (M, B, C).
        present: Which modalities a sample has, shape (M, B) bool; all, if None.

    Returns:
        Weights, shape (M, B): they sum to 1 over the modalities that are present and are zero for
        absent ones. A sample without any modality has weights zero.

    Raises:
        ValueError: If shapes do not fit.

    Reference:
        MLA (CVPR 2024), test-time dynamic fusion.
    """
    if logits.ndim != 3:
        raise ValueError(f"logits must be (M, B, C), got {tuple(logits.shape)}")
    log_p = logits.float().log_softmax(dim=-1)
    entropy = -(log_p.exp() * log_p).sum(dim=-1)
    if present is None:
        return (-entropy).softmax(dim=0)
    if present.shape != entropy.shape:
        raise ValueError(
            f"present must be (M, B) = {tuple(entropy.shape)}, got {tuple(present.shape)}"
        )
    scores = (-entropy).masked_fill(~present, float("-inf"))
    return scores.softmax(dim=0).nan_to_num(0.0)


def mean_weights(present: Tensor) -> Tensor:
    """Weight the present modalities equally.

    Args:
        present: Shape (M, B) bool.

    Returns:
        Weights, shape (M, B); zero for absent modalities.
    """
    return fixed_weights([1.0] * present.shape[0], present)


def fixed_weights(weights: Sequence[float], present: Tensor) -> Tensor:
    """Give each modality a fixed weight, renormalised where some are absent.

    Args:
        weights: One weight per modality, >= 0; where all are present they are used as they are
            after division by their sum.
        present: Shape (M, B) bool.

    Returns:
        Weights, shape (M, B); zero for absent modalities.

    Raises:
        ValueError: If their number differs from M, one is negative, or all are zero.
    """
    if len(weights) != present.shape[0] or min(weights) < 0 or not sum(weights) > 0:
        raise ValueError(
            f"weights must be {present.shape[0]} numbers >= 0 that are not all zero, got "
            f"{list(weights)}"
        )
    given = torch.tensor(weights, device=present.device)[:, None] * present
    return given / given.sum(dim=0).clamp_min(torch.finfo(given.dtype).tiny)


def batch_entropy_weights(logits: Tensor, present: Tensor | None = None) -> Tensor:
    """Compute the released code's "dynamic" weights: one per modality for the whole batch.

    Its softmax runs over the batch and its entropy is summed over everything, so the weights
    depend on which samples are evaluated together; a batch of one sample has equal weights.

    The code knows no absent modality. Here the softmax runs over the samples that have it, and a
    sample's weights are divided by the sum of those that it has.

    Args:
        logits: Logits, shape (M, B, C).
        present: Which modalities a sample has, shape (M, B) bool; all, if None.

    Returns:
        Weights, shape (M, B), constant along B where nothing is absent.
    """
    z_MBC = logits.float()
    if present is not None:
        z_MBC = z_MBC.masked_fill(~present[..., None], float("-inf"))
    p_MBC = z_MBC.softmax(dim=1).nan_to_num(0.0)  # of a modality that no sample has, nothing
    entropy_M = -torch.xlogy(p_MBC, p_MBC).sum(dim=(1, 2))
    weights_MB = (-entropy_M).softmax(dim=0)[:, None].expand(-1, logits.shape[1])
    if present is None:
        return weights_MB
    there_MB = weights_MB * present
    return there_MB / there_MB.sum(dim=0).clamp_min(torch.finfo(there_MB.dtype).tiny)


def confidence_of_present(confidence: Tensor, present: Tensor) -> Tensor:
    """Keep the confidences of modalities that are there, for a sum of logits weighted by them.

    A negative confidence turns a modality's answer round, which is harmless beside a larger one
    and wrong alone. So where a modality is absent, negative confidences count as 0, and if none is
    positive the present modalities weigh alike.

    Args:
        confidence: Shape (M, B).
        present: Shape (M, B) bool.

    Returns:
        Shape (M, B): as they are where all are present, zero where one is absent.
    """
    is_whole_B = present.all(dim=0)
    positive_MB = torch.where(present, confidence.clamp(min=0), 0.0)
    kept_MB = torch.where(is_whole_B, confidence, positive_MB)
    nobody_B = ~is_whole_B & (kept_MB.sum(dim=0) <= 0)
    return torch.where(nobody_B, mean_weights(present).to(kept_MB), kept_MB)


def fuse_logits(weights: Tensor, logits: Tensor) -> Tensor:
    """Sum the modalities' logits by weight.

    Absent modalities have weight zero and may hold anything, also NaN, without effect.

    Args:
        weights: Shape (M, B).
        logits: Shape (M, B, C).

    Returns:
        Fused logits, shape (B, C).
    """
    used = torch.where(weights[..., None] > 0, logits, torch.zeros_like(logits))
    return (weights[..., None].to(logits.dtype) * used).sum(dim=0)
