"""Concat: one linear head on the concatenated features."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import linear as affine

from mla_lightning.errors import ConfigError, near
from mla_lightning.fusion.base import Fusion, Present, linear


class Concat(Fusion):
    r"""One linear layer on the concatenated features: :math:`z = W [h_1; \dots; h_M] + b`.

    Single modality, ``slice``: :math:`z_m = W_m h_m + b / M` with the columns of W that read
    modality m, so the :math:`z_m` add up to z. ``zero_feature``: the same layer with zeros in place
    of the other features, hence with the full bias.

    Example:
        >>> fusion = Concat({"audio": 2, "visual": 3}, num_classes=4)
        >>> features = {"audio": torch.randn(5, 2), "visual": torch.randn(5, 3)}
        >>> logits = fusion.unimodal(features)
        >>> torch.allclose(logits["audio"] + logits["visual"], fusion(features), atol=1e-6)
        True

        The features of absent modalities are zero, whatever they hold:

        >>> true = torch.ones(5, dtype=torch.bool)
        >>> fused = fusion(features, present={"audio": ~true, "visual": true})
        >>> silent = {"audio": torch.zeros(5, 2), "visual": features["visual"]}
        >>> torch.equal(fused, fusion(silent))
        True
    """

    RULES = ("slice", "zero_feature")

    def __init__(
        self,
        feature_dims: Mapping[str, int],
        num_classes: int,
        *,
        unimodal_rule: str = "slice",
    ) -> None:
        """Build the head.

        Args:
            feature_dims: Modality -> width of its feature; widths may differ.
            num_classes: Number of classes C.
            unimodal_rule: ``slice`` or ``zero_feature``.

        Raises:
            ConfigError: If the rule is unknown.
        """
        super().__init__(feature_dims, num_classes)
        if unimodal_rule not in self.RULES:
            raise ConfigError(
                f"fusion unimodal_rule={unimodal_rule!r} is unknown."
                f"{near(unimodal_rule, self.RULES)} Known: {', '.join(self.RULES)}"
            )
        self.unimodal_rule = unimodal_rule
        self.head = linear(sum(feature_dims.values()), num_classes)

    def forward(self, features: Mapping[str, Tensor], present: Present = None) -> Tensor:
        """Compute the logits of the concatenated features; those of absent modalities are zero."""
        features = self.zero_absent(features, present)
        return self.head(torch.cat([features[name] for name in self.feature_dims], dim=1))

    def unimodal(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Compute each modality's logits with its columns of the head."""
        num_shares = len(self.feature_dims) if self.unimodal_rule == "slice" else 1
        bias = self.head.bias / num_shares
        return {
            name: affine(features[name], weight, bias)
            for name, weight in self.columns(self.head.weight).items()
        }

    def columns(self, matrix: Tensor) -> dict[str, Tensor]:
        """Return each modality's columns of the head's weight, or of its gradient, as views.

        Args:
            matrix: A matrix of the shape of the head's weight.

        Returns:
            Modality -> columns (C, D_m).
        """
        parts = matrix.split([*self.feature_dims.values()], dim=1)
        return dict(zip(self.feature_dims, parts, strict=True))
