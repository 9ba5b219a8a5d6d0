"""Cosine: one head per modality on normalised features and weights, logits added."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mla_lightning.errors import ConfigError
from mla_lightning.functional import cosine_logits
from mla_lightning.fusion.base import Fusion, Present


class Cosine(Fusion):
    r"""Sum of scaled cosines: :math:`z_c = \sum_m s \cos(h_m, W_{m,c})`.

    No modality can dominate by the norm of its features or weights, as each of the terms is between
    -s and s. The term of an absent modality is 0. From MMCosine (ICASSP 2023).

    The released code trains this, and evaluates the fused logits without normalisation,
    :math:`\sum_m W_m h_m`; ``released_eval`` does so in evaluation mode.

    Single modality, ``own_head``: its own cosines.

    Example:
        >>> fusion = Cosine({"audio": 2, "visual": 3}, num_classes=4)
        >>> features = {"audio": torch.randn(5, 2), "visual": torch.randn(5, 3)}
        >>> longer = {"audio": 100 * features["audio"], "visual": features["visual"]}
        >>> torch.allclose(fusion(longer), fusion(features), atol=1e-5)
        True
        >>> Cosine({"audio": 2, "visual": 3}, num_classes=4, scale=0.0)
        Traceback (most recent call last):
        ...
        mla_lightning.errors.ConfigError: fusion scale must be > 0, got 0.0
    """

    unimodal_rule = "own_head"

    def __init__(
        self,
        feature_dims: Mapping[str, int],
        num_classes: int,
        *,
        scale: float = 10.0,
        released_eval: bool = False,
    ) -> None:
        """Build one head without bias per modality.

        Args:
            feature_dims: Modality -> width of its feature; widths may differ.
            num_classes: Number of classes C.
            scale: The largest logit s of a modality, > 0.
            released_eval: Whether fused logits are not normalised in evaluation mode.

        Raises:
            ConfigError: If ``scale`` is not positive.
        """
        super().__init__(feature_dims, num_classes)
        if scale <= 0:
            raise ConfigError(f"fusion scale must be > 0, got {scale}")
        self.scale, self.released_eval = scale, released_eval
        self.heads = nn.ModuleDict(
            {name: nn.Linear(d, num_classes, bias=False) for name, d in feature_dims.items()}
        )
        for head in self.heads.values():
            nn.init.xavier_normal_(head.get_parameter("weight"))

    def forward(self, features: Mapping[str, Tensor], present: Present = None) -> Tensor:
        """Compute the sum of the logits of the present modalities."""
        features = self.zero_absent(features, present)
        if self.released_eval and not self.training:
            terms = {name: head(features[name]) for name, head in self.heads.items()}
        else:
            terms = self.unimodal(features)
        return torch.stack([*terms.values()]).sum(dim=0)

    def unimodal(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Compute each modality's scaled cosines."""
        return {
            name: cosine_logits(features[name], head.get_parameter("weight"), self.scale)
            for name, head in self.heads.items()
        }
