"""Shared head: all modalities go through one linear layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from mla_lightning.errors import ConfigError
from mla_lightning.fusion.base import LogitFusion, linear


class SharedHead(LogitFusion):
    r"""One linear head for every modality: :math:`z_m = W h_m + b`, fused by weights.

    The head of MLA (CVPR 2024). Single modality: the shared head on its feature. All features must
    have the head's width; where one has not, a linear map of its own brings it there and counts as
    part of that modality's encoder.
    """

    unimodal_rule = "shared_head"

    def __init__(
        self,
        feature_dims: Mapping[str, int],
        num_classes: int,
        *,
        weighting: str | Sequence[float] = "mean",
        dim: int | None = None,
    ) -> None:
        """Build the head.

        Args:
            feature_dims: Modality -> width of its feature.
            num_classes: Number of classes C.
            weighting: ``mean``, ``entropy``, ``batch_entropy``, or one weight per modality.
            dim: Width D of the head; the widest feature's by default.

        Raises:
            ConfigError: If ``dim`` is below 1.
        """
        super().__init__(feature_dims, num_classes, weighting=weighting)
        if dim is not None and dim < 1:
            raise ConfigError(f"fusion dim must be at least 1, got {dim}")
        width = dim or max(feature_dims.values())
        self.adapters = nn.ModuleDict(
            {name: linear(own, width) for name, own in feature_dims.items() if own != width}
        )
        self.head = linear(width, num_classes)

    def head_input(self, name: str, feature: Tensor) -> Tensor:
        """Bring a modality's feature (B, D_m) to the head's width (B, D)."""
        return self.adapters[name](feature) if name in self.adapters else feature

    def unimodal(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Apply the head to each modality's feature."""
        return {
            name: self.head(self.head_input(name, features[name])) for name in self.feature_dims
        }
