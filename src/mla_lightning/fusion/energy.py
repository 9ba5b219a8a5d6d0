"""Energy fusion: logits weighted by their own confidence."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mla_lightning.functional import confidence_of_present, energy_confidence
from mla_lightning.fusion.base import Present
from mla_lightning.fusion.sum import Sum


class EnergyFusion(Sum):
    r"""Confidence-weighted sum of one head per modality: :math:`z = \sum_m c_m z_m`.

    :math:`c_m = \mathrm{logsumexp}(z_m) / 10`, which may be negative. Where a modality is missing,
    negative ones count as 0, see
    :func:`~mla_lightning.functional.weighting.confidence_of_present`. QMF (ICML 2023) detaches it
    in its text-image code and MLA's copy does; its RGB-D code does not. Single modality: own head.
    """

    def __init__(
        self,
        feature_dims: Mapping[str, int],
        num_classes: int,
        *,
        detach_confidence: bool = True,
    ) -> None:
        """Build one head per modality.

        Args:
            feature_dims: Modality -> width of its feature.
            num_classes: Number of classes C.
            detach_confidence: Let no gradient of the fused loss reach the confidence.
        """
        super().__init__(feature_dims, num_classes)
        self.detach_confidence = detach_confidence

    def forward(self, features: Mapping[str, Tensor], present: Present = None) -> Tensor:
        """Weight and add the logits of the modalities that are present."""
        own = self.unimodal(features)
        logits_MBC = torch.stack([own[name] for name in self.feature_dims])
        confidence_MB = torch.stack([energy_confidence(z_BC) for z_BC in logits_MBC])
        if self.detach_confidence:
            confidence_MB = confidence_MB.detach()
        if present is not None:
            there_MB = torch.stack([present[name] for name in self.feature_dims])
            confidence_MB = confidence_of_present(confidence_MB, there_MB)
            logits_MBC = torch.where(there_MB[..., None], logits_MBC, 0.0)
        return (confidence_MB[..., None] * logits_MBC).sum(dim=0)

    def weights_of(self, own: Mapping[str, Tensor], present: Present = None) -> Tensor:
        """Tell the confidences, which need not sum to 1; 0 for absent modalities."""
        confidence_MB = torch.stack([energy_confidence(own[name]) for name in self.feature_dims])
        if present is None:
            return confidence_MB
        there_MB = torch.stack([present[name] for name in self.feature_dims])
        return confidence_of_present(confidence_MB, there_MB)
