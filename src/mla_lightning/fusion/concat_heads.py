"""Concat with a head of its own for each modality."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from mla_lightning.fusion.base import linear
from mla_lightning.fusion.concat import Concat


class ConcatHeads(Concat):
    r"""One linear head on the concatenated features, and one on each modality's own feature.

    The fused logits are :math:`z = W [h_1; \dots; h_M] + b`, as of
    :class:`~mla_lightning.fusion.concat.Concat`; a modality's own logits are
    :math:`z_m = V_m h_m + c_m`, which share no parameter with them. So a loss on :math:`z_m`
    reaches the encoder and the head of modality m alone.

    Example:
        >>> import torch
        >>> fusion = ConcatHeads({"audio": 2, "visual": 3}, num_classes=4)
        >>> features = {"audio": torch.randn(5, 2), "visual": torch.randn(5, 3)}
        >>> {name: z.shape for name, z in fusion.unimodal(features).items()}
        {'audio': torch.Size([5, 4]), 'visual': torch.Size([5, 4])}
        >>> fusion.unimodal_rule
        'own_head'
    """

    unimodal_rule = "own_head"

    def __init__(self, feature_dims: Mapping[str, int], num_classes: int) -> None:
        """Build the heads.

        Args:
            feature_dims: Modality -> width of its feature; widths may differ.
            num_classes: Number of classes C.
        """
        super().__init__(feature_dims, num_classes)
        self.unimodal_rule = "own_head"
        heads = {name: linear(width, num_classes) for name, width in feature_dims.items()}
        self.heads = nn.ModuleDict(heads)

    def unimodal(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Compute each modality's logits by its own head."""
        return {name: head(features[name]) for name, head in self.heads.items()}
