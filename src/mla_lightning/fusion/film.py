"""FiLM: the other modalities scale and shift one modality's feature."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mla_lightning.errors import ConfigError
from mla_lightning.fusion.base import Fusion, Present, linear


class FiLM(Fusion):
    r"""Feature-wise linear modulation: :math:`z = W_o(\gamma \odot h_v + \beta) + b_o`.

    :math:`[\gamma, \beta] = W_f h_c + b_f`, where :math:`h_c` is the concatenation of all features
    but the modulated one (for two modalities: the other one). The scale is :math:`\gamma`, not
    :math:`1 + \gamma`. Source: Perez et al., AAAI 2018, as in the released codes of OGM-GE and MLA.

    Single modality, ``zero_feature``: the whole module with zeros in place of the other features.
    Neither released code computes these logits, since its fusion head cannot be sliced.

    Example:
        With scale 1 and shift 0, the modulated modality alone decides:

        >>> fusion = FiLM({"audio": 2, "visual": 3}, num_classes=4)  # visual is modulated
        >>> _ = torch.nn.init.zeros_(fusion.film.weight)
        >>> fusion.film.bias.data = torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0, 0.0])
        >>> features = {"audio": torch.randn(5, 2), "visual": torch.randn(5, 3)}
        >>> torch.equal(fusion(features), fusion.head(features["visual"]))
        True
    """

    unimodal_rule = "zero_feature"
    mixes_modalities = True

    def __init__(
        self, feature_dims: Mapping[str, int], num_classes: int, *, modulated: str | None = None
    ) -> None:
        """Build the layer of scales and shifts, and the head.

        Args:
            feature_dims: Modality -> width of its feature, at least two.
            num_classes: Number of classes C.
            modulated: The modality whose feature is modulated; the last one by default.

        Raises:
            ConfigError: If ``modulated`` is not a modality, or there is one modality alone.
        """
        super().__init__(feature_dims, num_classes)
        if len(feature_dims) < 2:
            raise ConfigError(
                f"fusion FiLM modulates one modality by the others, and {', '.join(feature_dims)} "
                "is the only one. Give at least two, or use fusion Concat."
            )
        self.modulated = self.resolve_modality(modulated, "modulated")
        self.conditions = [name for name in feature_dims if name != self.modulated]
        width = feature_dims[self.modulated]
        self.film = linear(sum(feature_dims[name] for name in self.conditions), 2 * width)
        self.head = linear(width, num_classes)

    def forward(self, features: Mapping[str, Tensor], present: Present = None) -> Tensor:
        """Compute the fused logits; features of absent modalities are zero."""
        features = self.zero_absent(features, present)
        condition = torch.cat([features[name] for name in self.conditions], dim=1)
        gamma, beta = self.film(condition).chunk(2, dim=1)
        return self.head(gamma * features[self.modulated] + beta)

    def unimodal(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Compute the fused logits once per modality, with zeros for the other features."""
        return {name: self(self.zero_others(name, features)) for name in self.feature_dims}
