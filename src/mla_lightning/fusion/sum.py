"""Sum: one head per modality, logits added."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mla_lightning.fusion.base import Fusion, Present, linear


class Sum(Fusion):
    r"""Sum of the logits of one head per modality: :math:`z = \sum_m (W_m h_m + b_m)`.

    Single modality, ``own_head``: its own head, with its full bias. The evaluation loops of OGM's
    and MLA's code use half the bias there, although training never does.

    Example:
        >>> fusion = Sum({"audio": 2, "visual": 3}, num_classes=4)
        >>> features = {"audio": torch.randn(5, 2), "visual": torch.randn(5, 3)}
        >>> logits = fusion.unimodal(features)
        >>> torch.allclose(fusion(features), logits["audio"] + logits["visual"])
        True
        >>> true = torch.ones(5, dtype=torch.bool)
        >>> fused = fusion(features, present={"audio": ~true, "visual": true})
        >>> torch.equal(fused, logits["visual"])
        True
    """

    unimodal_rule = "own_head"

    def __init__(self, feature_dims: Mapping[str, int], num_classes: int) -> None:
        """Build one head per modality.

        Args:
            feature_dims: Modality -> width of its feature.
            num_classes: Number of classes C.
        """
        super().__init__(feature_dims, num_classes)
        self.heads = nn.ModuleDict({m: linear(d, num_classes) for m, d in feature_dims.items()})

    def forward(self, features: Mapping[str, Tensor], present: Present = None) -> Tensor:
        """Compute the sum of the logits of the present modalities."""
        own_logits = self.unimodal(self.zero_absent(features, present))
        if present is None:
            return torch.stack([*own_logits.values()]).sum(dim=0)
        terms = [
            torch.where(present[name][:, None], z_BC, torch.zeros_like(z_BC))
            for name, z_BC in own_logits.items()
        ]
        return torch.stack(terms).sum(dim=0)

    def unimodal(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Compute the logits of each head."""
        return {name: head(features[name]) for name, head in self.heads.items()}
