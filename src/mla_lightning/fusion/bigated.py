"""BiGated: one modality's feature is multiplied by gates of the other modalities."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mla_lightning.fusion.base import Fusion, Present, linear


class BiGated(Fusion):
    r"""Bilinear gating: :math:`z = W_o(\prod_{g} \sigma(u_g) \odot u_v) + b_o`.

    :math:`u_m = W_m h_m + b_m` projects every modality to the width of the gated one v; all others
    are gates g (for two modalities: one gate, as in the released codes). Idea: Kiela et al., AAAI
    2018.

    Single modality, ``zero_feature``: the whole module with zeros in place of the other features.
    A gate alone then multiplies the bias of the gated modality's projection, and the gated modality
    alone is multiplied by the sigmoid of the gates' biases.

    Example:
        A gate of zero weight and bias is sigmoid(0), so it halves the gated feature:

        >>> fusion = BiGated({"audio": 2, "visual": 3}, num_classes=4)  # visual is gated
        >>> features = {"audio": torch.randn(5, 2), "visual": torch.randn(5, 3)}
        >>> _ = nn.init.zeros_(fusion.projections["audio"].weight)
        >>> projected = fusion.projections["visual"](features["visual"])
        >>> torch.allclose(fusion(features), fusion.head(projected / 2), atol=1e-6)
        True
    """

    unimodal_rule = "zero_feature"
    mixes_modalities = True

    def __init__(
        self, feature_dims: Mapping[str, int], num_classes: int, *, gated: str | None = None
    ) -> None:
        """Build the projections and the head.

        Args:
            feature_dims: Modality -> width of its feature, at least two.
            num_classes: Number of classes C.
            gated: The modality whose projection is gated; the last one by default.

        Raises:
            ConfigError: If ``gated`` is not a modality.
        """
        super().__init__(feature_dims, num_classes)
        self.gated = self.resolve_modality(gated, "gated")
        width = feature_dims[self.gated]
        self.projections = nn.ModuleDict({m: linear(d, width) for m, d in feature_dims.items()})
        self.head = linear(width, num_classes)

    def forward(self, features: Mapping[str, Tensor], present: Present = None) -> Tensor:
        """Compute the fused logits; features of absent modalities are zero."""
        features = self.zero_absent(features, present)
        gated = self.projections[self.gated](features[self.gated])
        for name in self.feature_dims:
            if name != self.gated:
                gated = torch.sigmoid(self.projections[name](features[name])) * gated
        return self.head(gated)

    def unimodal(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Compute the fused logits once per modality, with zeros for the other features."""
        return {name: self(self.zero_others(name, features)) for name in self.feature_dims}
