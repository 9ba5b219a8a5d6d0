"""Weights of the modalities at test time, and the weighted sum of their logits.

Notation: ``z_MBC`` logits of M modalities, B samples, C classes; weights (M, B).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mla_lightning.functional.entropy import categorical_entropies
from mla_lightning.functional.precision import at_least_single


def entropy_weights(logits: Tensor, present: Tensor | None = None) -> Tensor:
    r"""Weight the modalities of each sample by the negative entropy of their predictions.

    .. math:: \lambda_m = \frac{\exp(\max_j e_j - e_m)}{\sum_k \exp(\max_j e_j - e_k)}, \quad
              e_m = -p_m^\top \log p_m

    The maximum cancels: this is a softmax of the negative entropy over the modalities, so the
    modality with the lower entropy has the larger weight.

    Args:
        logits: Logits, shape (M, B, C).
        present: Which modalities a sample has, shape (M, B) bool; None if all are present.

    Returns:
        Weights, shape (M, B): they sum to 1 over the modalities that are present and are zero for
        absent ones. A sample without any modality has weights of zero.

    Raises:
        ValueError: If shapes do not fit.

    Reference:
        MLA (CVPR 2024), test-time dynamic fusion.

    Example:
        The first modality is certain (entropy 0), the second undecided among two classes (ln 2),
        so the weights are 1 : 1/2.

        >>> logits = torch.tensor([[[100.0, 0.0]], [[0.0, 0.0]]])
        >>> entropy_weights(logits)
        tensor([[0.6667],
                [0.3333]])
        >>> entropy_weights(logits, present=torch.tensor([[False], [True]]))
        tensor([[0.],
                [1.]])
    """
    if logits.ndim != 3:
        raise ValueError(f"logits must be (M, B, C), got {tuple(logits.shape)}")
    return weights_of_entropies(categorical_entropies(logits), present)


def weights_of_entropies(entropy: Tensor, present: Tensor | None = None) -> Tensor:
    """Weight the modalities of each sample by a softmax of their negative entropies.

    Args:
        entropy: Entropies of the modalities' predictions in nats, shape (M, B).
        present: Which modalities a sample has, shape (M, B) bool; None if all are present.

    Returns:
        Weights, shape (M, B): they sum to 1 over the modalities that are present and are zero for
        absent ones. A sample without any modality has weights of zero.

    Raises:
        ValueError: If shapes do not fit.

    Example:
        Of two normal distributions the first has half the deviation, so its entropy is smaller by
        ln 2 and its weight is twice the other's:

        >>> entropy = torch.tensor([[0.5], [1.0]]).log() + 1.4189
        >>> weights_of_entropies(entropy)
        tensor([[0.6667],
                [0.3333]])
    """
    if present is None:
        return (-entropy).softmax(dim=0)
    if present.shape != entropy.shape:
        raise ValueError(
            f"present must be (M, B) = {tuple(entropy.shape)}, got {tuple(present.shape)}"
        )
    scores = (-entropy).masked_fill(~present, float("-inf"))
    return scores.softmax(dim=0).nan_to_num(0.0)


def mean_weights(present: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Weight the present modalities equally.

    Args:
        present: Which modalities a sample has, shape (M, B) bool.
        dtype: Precision of the weights.

    Returns:
        Weights, shape (M, B); zero for absent modalities.

    Example:
        Two samples; the first modality is absent in the second one:

        >>> mean_weights(torch.tensor([[True, False], [True, True]]))
        tensor([[0.5000, 0.0000],
                [0.5000, 1.0000]])
    """
    return fixed_weights([1.0] * present.shape[0], present, dtype)


def fixed_weights(
    weights: Sequence[float], present: Tensor, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Weight each modality by a fixed number, normalised over the present modalities.

    Args:
        weights: One weight per modality, >= 0; only their ratios matter.
        present: Which modalities a sample has, shape (M, B) bool.
        dtype: Precision of the weights.

    Returns:
        Weights, shape (M, B): they sum to 1 over the present modalities and are zero for absent
        ones.

    Raises:
        ValueError: If their number differs from M, one is negative, or all are zero.

    Example:
        Three modalities, two samples; the first modality is absent in the second one:

        >>> present = torch.tensor([[True, False], [True, True], [True, True]])
        >>> fixed_weights([2.0, 1.0, 1.0], present)
        tensor([[0.5000, 0.0000],
                [0.2500, 0.5000],
                [0.2500, 0.5000]])
    """
    if len(weights) != present.shape[0] or min(weights) < 0 or not sum(weights) > 0:
        raise ValueError(
            f"weights must be {present.shape[0]} numbers >= 0 that are not all zero, got "
            f"{list(weights)}"
        )
    weights_MB = torch.tensor(weights, dtype=dtype, device=present.device)[:, None] * present
    return weights_MB / weights_MB.sum(dim=0).clamp_min(torch.finfo(weights_MB.dtype).tiny)


def batch_entropy_weights(logits: Tensor, present: Tensor | None = None) -> Tensor:
    """Compute the "dynamic" weights of MLA's released code: one per modality for the whole batch.

    The softmax of the released code runs over the batch and its entropy is summed over samples and
    classes. So the weights depend on which samples are evaluated together, and a batch of one
    sample has equal weights.

    The released code has no absent modalities. Here the softmax runs over the samples that have the
    modality, and the weights of a sample are divided by their sum over the modalities it has.

    Args:
        logits: Logits, shape (M, B, C).
        present: Which modalities a sample has, shape (M, B) bool; None if all are present.

    Returns:
        Weights, shape (M, B); constant along B if all modalities are present.

    Example:
        A sample has equal weights alone, but other ones beside a second sample:

        >>> logits = torch.tensor([[[100.0, 0.0], [0.0, 100.0]], [[0.0, 0.0], [0.0, 0.0]]])
        >>> batch_entropy_weights(logits[:, :1])
        tensor([[0.5000],
                [0.5000]])
        >>> batch_entropy_weights(logits)
        tensor([[0.8000, 0.8000],
                [0.2000, 0.2000]])
    """
    z_MBC = at_least_single(logits)
    if present is not None:
        z_MBC = z_MBC.masked_fill(~present[..., None], float("-inf"))
    log_p_MBC = z_MBC.log_softmax(dim=1)
    p_MBC = log_p_MBC.exp()
    if present is not None:  # 0 log 0 is 0, also in the gradient
        log_p_MBC = log_p_MBC.masked_fill(~present[..., None], 0.0)
        p_MBC = p_MBC.masked_fill(~present[..., None], 0.0)
    entropy_M = -(p_MBC * log_p_MBC).sum(dim=(1, 2))
    weights_MB = (-entropy_M).softmax(dim=0)[:, None].expand(-1, logits.shape[1])
    if present is None:
        return weights_MB
    present_MB = weights_MB * present
    return present_MB / present_MB.sum(dim=0).clamp_min(torch.finfo(present_MB.dtype).tiny)


def confidence_of_present(confidence: Tensor, present: Tensor) -> Tensor:
    """Adapt confidences to absent modalities, for a sum of logits weighted by them.

    A negative confidence reverses the order of a modality's logits. This is harmless beside a
    larger positive one, but wrong for a modality that is alone. So for a sample with an absent
    modality, negative confidences count as 0, and if none is positive the present modalities have
    equal weights.

    Args:
        confidence: Confidence of each modality, shape (M, B).
        present: Which modalities a sample has, shape (M, B) bool.

    Returns:
        Confidences, shape (M, B): unchanged for samples with all modalities, zero for absent
        modalities.

    Example:
        The first sample has both modalities; in the other two the first modality is absent:

        >>> confidence = torch.tensor([[0.5, 0.5, 0.5], [-0.25, 0.25, -0.25]])
        >>> present = torch.tensor([[True, False, False], [True, True, True]])
        >>> confidence_of_present(confidence, present)
        tensor([[ 0.5000,  0.0000,  0.0000],
                [-0.2500,  0.2500,  1.0000]])
    """
    is_complete_B = present.all(dim=0)
    positive_MB = torch.where(present, confidence.clamp(min=0), 0.0)
    confidence_MB = torch.where(is_complete_B, confidence, positive_MB)
    none_positive_B = ~is_complete_B & (confidence_MB.sum(dim=0) <= 0)
    equal_MB = mean_weights(present, confidence_MB.dtype)
    return torch.where(none_positive_B, equal_MB, confidence_MB)


def fuse_logits(weights: Tensor, logits: Tensor) -> Tensor:
    """Sum the logits of the modalities, weighted.

    Modalities of weight zero have no effect, whatever their logits are, also NaN.

    Args:
        weights: Weights, shape (M, B); zero for absent modalities.
        logits: Logits, shape (M, B, C).

    Returns:
        Fused logits, shape (B, C).

    Example:
        >>> logits = torch.tensor([[[4.0, 0.0]], [[0.0, 2.0]], [[float("nan"), 0.0]]])
        >>> fuse_logits(torch.tensor([[0.75], [0.25], [0.0]]), logits)
        tensor([[3.0000, 0.5000]])
    """
    logits_MBC = torch.where(weights[..., None] > 0, logits, torch.zeros_like(logits))
    return (weights[..., None].to(logits.dtype) * logits_MBC).sum(dim=0)
