"""Sum: one head per modality, logits added."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mla_lightning.fusion.base import Fusion, Present, linear


class Sum(Fusion):
    r"""Adds the logits of one head per modality: :math:`z = \sum_m (W_m h_m + b_m)`.

    Single modality: its own head, with its full bias. The eval loops of OGM's and MLA's code use
    half the bias there, which their training never does.
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
        """Add the logits of the modalities that are present."""
        own = self.unimodal(features)
        if present is None:
            return torch.stack([*own.values()]).sum(dim=0)
        parts = [torch.where(present[m][:, None], z, torch.zeros_like(z)) for m, z in own.items()]
        return torch.stack(parts).sum(dim=0)

    def unimodal(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return each head's logits."""
        return {name: head(features[name]) for name, head in self.heads.items()}
