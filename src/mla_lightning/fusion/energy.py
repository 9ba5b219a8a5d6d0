"""Energy fusion: logits weighted by their own confidence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mla_lightning.errors import ConfigError
from mla_lightning.functional import confidence_of_present
from mla_lightning.fusion.base import Present
from mla_lightning.fusion.sum import Sum

if TYPE_CHECKING:
    from mla_lightning.tasks import Task

#: Why there is no energy confidence of one number, and what to use.
NO_ENERGY = "one number has no energy. Use method=late_fusion or method=mla"


class EnergyFusion(Sum):
    r"""Confidence-weighted sum of the logits of one head per modality: :math:`z = \sum_m c_m z_m`.

    :math:`c_m = \mathrm{logsumexp}(z_m) / 10`, which may be negative; for several labels it is the
    joint energy, see :func:`~mla_lightning.functional.ranking.joint_energy_confidence`. For a
    sample with an absent modality, negative ones count as 0, see
    :func:`~mla_lightning.functional.weighting.confidence_of_present`. QMF (ICML 2023) detaches the
    confidence in its text-image code, and so does MLA's copy; QMF's RGB-D code does not.

    Single modality: its own head.

    Example:
        A modality whose logits are larger has a larger weight. Weights need not sum to 1:

        >>> fusion = EnergyFusion({"audio": 2, "visual": 3}, num_classes=2)
        >>> logits = {"audio": torch.tensor([[30.0, 0.0]]), "visual": torch.tensor([[0.0, 10.0]])}
        >>> fusion.logit_weights(logits).T
        tensor([[3.0000, 1.0000]])

        ``detach_confidence`` changes gradients, not values:

        >>> features = {"audio": torch.randn(5, 2), "visual": torch.randn(5, 3)}
        >>> fused = fusion(features)
        >>> fusion.detach_confidence = False
        >>> torch.equal(fusion(features), fused)
        True
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
            detach_confidence: Whether the confidence gets no gradient of the fused loss.
        """
        super().__init__(feature_dims, num_classes)
        self.detach_confidence = detach_confidence

    def follow(self, task: Task) -> None:
        """Compute confidences as a task defines them; see :meth:`Fusion.follow`."""
        super().follow(task)
        if not task.has_energy:
            raise ConfigError(f"fusion=energy is not for {task.name}: {NO_ENERGY}.")

    def forward(self, features: Mapping[str, Tensor], present: Present = None) -> Tensor:
        """Compute the confidence-weighted sum of the logits of the present modalities."""
        own_logits = self.unimodal(self.zero_absent(features, present))
        logits_MBC = torch.stack([own_logits[name] for name in self.feature_dims])
        confidence_MB = torch.stack([self.confidence_of(z_BC) for z_BC in logits_MBC])
        if self.detach_confidence:
            confidence_MB = confidence_MB.detach()
        if present is not None:
            present_MB = torch.stack([present[name] for name in self.feature_dims])
            confidence_MB = confidence_of_present(confidence_MB, present_MB)
            logits_MBC = torch.where(present_MB[..., None], logits_MBC, 0.0)
        return (confidence_MB[..., None] * logits_MBC).sum(dim=0)

    def logit_weights(self, own_logits: Mapping[str, Tensor], present: Present = None) -> Tensor:
        """Compute the confidences, which need not sum to 1; 0 for absent modalities."""
        confidence_MB = torch.stack(
            [self.confidence_of(own_logits[name]) for name in self.feature_dims]
        )
        if present is None:
            return confidence_MB
        present_MB = torch.stack([present[name] for name in self.feature_dims])
        return confidence_of_present(confidence_MB, present_MB)
