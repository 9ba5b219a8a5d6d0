"""Weights of the modalities by the predicted probability of the true class.

Source: PDF, Predictive Dynamic Fusion (ICML 2024): mono-confidence, holo-confidence, collaborative
belief and relative calibration. Notation: ``t_MB`` is the predicted probability of the true class
of M modalities and B samples.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mla_lightning.functional.precision import at_least_single


def holo_confidence(tcp: Tensor, present: Tensor | None = None) -> Tensor:
    r"""Compute for each modality the confidence that the others' lack of it adds.

    .. math:: \mathrm{holo}_m = \frac{\sum_{j \ne m} \ln t_j}{\sum_j \ln t_j}

    Over M modalities they sum to M - 1. With absent modalities the sums are over the present ones.

    Args:
        tcp: Predicted probabilities t of the true class, shape (M, B); at least 1e-6 away from 0
            and 1, or moved there.
        present: Which modalities a sample has, shape (M, B) bool; None if all are present.

    Returns:
        Holo-confidences, shape (M, B); 0 for absent modalities and for one that is alone.

    Example:
        >>> holo_confidence(torch.tensor([[0.8], [0.4]])).T
        tensor([[0.8042, 0.1958]])
        >>> holo_confidence(torch.tensor([[0.8], [0.4]]), torch.tensor([[True], [False]])).T
        tensor([[0., 0.]])
    """
    surprise_MB = -at_least_single(tcp).clamp(1e-6, 1 - 1e-6).log()
    if present is None:
        total_B = surprise_MB.sum(dim=0)
        return (total_B - surprise_MB) / total_B
    surprise_MB = surprise_MB.masked_fill(~present, 0.0)
    total_B = surprise_MB.sum(dim=0)
    # Without any modality the total is 0, and so is every numerator.
    holo_MB = (total_B - surprise_MB) / torch.where(present.any(dim=0), total_B, 1.0)
    return holo_MB.masked_fill(~present, 0.0)


def distribution_uniformity(logits: Tensor) -> Tensor:
    r"""Compute how far predictions are from uniform ones: :math:`\mathrm{mean}_c |p_c - 1/C|`.

    Args:
        logits: Logits, shape (..., C).

    Returns:
        Distances, shape (...), from 0 for a uniform prediction to 2 (C - 1) / C^2.

    Example:
        >>> distribution_uniformity(torch.tensor([0.7, 0.2, 0.1]).log())
        tensor(0.2444)
    """
    p = at_least_single(logits).softmax(dim=-1)
    return (p - 1 / logits.shape[-1]).abs().mean(dim=-1)


def relative_calibration(uniformity: Tensor, present: Tensor | None = None) -> Tensor:
    r"""Compute the factor of each modality's confidence: its distance relative to the largest one.

    Args:
        uniformity: Distances from uniform predictions, shape (M, B).
        present: Which modalities a sample has, shape (M, B) bool; None if all are present.

    Returns:
        Factors, shape (M, B), in [0, 1]; 1 for the largest one, and for all if all are 0.

    Example:
        >>> relative_calibration(torch.tensor([[0.3], [0.1]])).T
        tensor([[1.0000, 0.3333]])
    """
    if present is not None:
        uniformity = uniformity.masked_fill(~present, 0.0)
    largest_B = uniformity.amax(dim=0)
    is_uniform_B = largest_B == 0
    factors = uniformity / torch.where(is_uniform_B, 1.0, largest_B)
    return torch.where(is_uniform_B, 1.0, factors)


def belief_weights(
    tcp: Tensor, present: Tensor | None = None, calibration: Tensor | None = None
) -> Tensor:
    r"""Compute weights of modalities from their collaborative belief, calibrated if so wanted.

    .. math:: w = \mathrm{softmax}_m\big((t_m + \mathrm{holo}_m) \, \mathrm{rc}_m\big)

    Args:
        tcp: Predicted probabilities t of the true class, shape (M, B).
        present: Which modalities a sample has, shape (M, B) bool; None if all are present.
        calibration: Factors rc of :func:`relative_calibration`, shape (M, B); None for 1.

    Returns:
        Weights, shape (M, B): they sum to 1 over the modalities that are present and are zero for
        absent ones. A sample without any modality has weights of zero.

    Example:
        >>> belief_weights(torch.tensor([[0.8], [0.4]])).T
        tensor([[0.7327, 0.2673]])
        >>> belief_weights(torch.tensor([[0.8], [0.4]]), None, torch.tensor([[1.0], [1 / 3]])).T
        tensor([[0.8031, 0.1969]])
    """
    belief_MB = at_least_single(tcp) + holo_confidence(tcp, present)
    if calibration is not None:
        belief_MB = belief_MB * calibration
    if present is None:
        return belief_MB.softmax(dim=0)
    belief_MB = belief_MB.masked_fill(~present, float("-inf"))
    return belief_MB.softmax(dim=0).nan_to_num(0.0)
