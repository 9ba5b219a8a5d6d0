"""Late fusion: own heads, logits (or probabilities) averaged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mla_lightning.fusion.base import LogitFusion, Present, linear


class LateFusion(LogitFusion):
    r"""Weights the logits of one head per modality: :math:`z = \sum_m \lambda_m (W_m h_m + b_m)`.

    ``weighting`` is ``mean`` by default; ``mean_probability`` averages probabilities instead and
    returns their logarithm. Single modality: its own head.
    """

    unimodal_rule = "own_head"

    def __init__(
        self,
        feature_dims: Mapping[str, int],
        num_classes: int,
        *,
        weighting: str | Sequence[float] = "mean",
    ) -> None:
        """Build one head per modality.

        Args:
            feature_dims: Modality -> width of its feature.
            num_classes: Number of classes C.
            weighting: ``mean``, ``entropy``, ``batch_entropy``, ``mean_probability``, or one
                weight per modality.
        """
        self.of_probabilities = weighting == "mean_probability"
        super().__init__(
            feature_dims, num_classes, weighting="mean" if self.of_probabilities else weighting
        )
        self.heads = nn.ModuleDict({m: linear(d, num_classes) for m, d in feature_dims.items()})

    def forward(self, features: Mapping[str, Tensor], present: Present = None) -> Tensor:
        """Fuse the logits of the modalities that are present."""
        if not self.of_probabilities:
            return super().forward(features, present)
        own = self.unimodal(features)
        log_p = torch.stack([own[name].log_softmax(dim=1) for name in self.feature_dims])
        weights_MB = self.weights(log_p, present)
        return torch.logsumexp(log_p + weights_MB.log()[..., None], dim=0)

    def unimodal(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return each head's logits."""
        return {name: head(features[name]) for name, head in self.heads.items()}
