"""BiGated: the other modalities gate one modality's feature."""

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

    Single modality, ``zero_feature``: the whole module with zeros in place of the other features,
    so a gate alone sees the bias of the gated branch and the reverse.
    """

    unimodal_rule = "zero_feature"

    def __init__(
        self, feature_dims: Mapping[str, int], num_classes: int, *, gated: str | None = None
    ) -> None:
        """Build the module.

        Args:
            feature_dims: Modality -> width of its feature, at least two.
            num_classes: Number of classes C.
            gated: The modality whose projection is gated; the last one by default.
        """
        super().__init__(feature_dims, num_classes)
        self.gated = self.chosen(gated, "gated")
        width = feature_dims[self.gated]
        self.projections = nn.ModuleDict({m: linear(d, width) for m, d in feature_dims.items()})
        self.head = linear(width, num_classes)

    def forward(self, features: Mapping[str, Tensor], present: Present = None) -> Tensor:
        """Gate and classify; features of absent modalities are zero."""
        features = self.zeroed(features, present)
        joined = self.projections[self.gated](features[self.gated])
        for name in self.feature_dims:
            if name != self.gated:
                joined = torch.sigmoid(self.projections[name](features[name])) * joined
        return self.head(joined)

    def unimodal(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run the module once per modality, the others zero."""
        return {name: self(self.only(name, features)) for name in self.feature_dims}
