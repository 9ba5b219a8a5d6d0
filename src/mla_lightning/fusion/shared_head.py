"""Shared head: one linear layer that all modalities use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from mla_lightning.errors import ConfigError
from mla_lightning.fusion.base import LogitFusion, linear


class SharedHead(LogitFusion):
    r"""One linear head for all modalities: :math:`z_m = W h_m + b`, fused by weights.

    This is the head of MLA (CVPR 2024). All its inputs have one width: a modality with a feature of
    another width gets a linear layer (an adapter) before the head, which counts as part of that
    modality's encoder.

    With ``hidden`` a layer of that width, with ReLU, lies before the head, as in ReconBoost (ICML
    2024): :math:`z_m = W \,\mathrm{ReLU}(V h_m + c) + b`, also shared by all modalities. ``head``
    is the last layer, and a rule that changes the head's gradient, such as MLA's projection,
    changes that of this layer alone, by its own input.

    Single modality, ``shared_head``: the shared head on its feature.

    Example:
        >>> import torch
        >>> fusion = SharedHead({"audio": 2, "visual": 3}, num_classes=4)
        >>> fusion.head
        Linear(in_features=3, out_features=4, bias=True)
        >>> fusion.adapters
        ModuleDict(
          (audio): Linear(in_features=2, out_features=3, bias=True)
        )
        >>> features = {"audio": torch.randn(5, 2), "visual": torch.randn(5, 3)}
        >>> torch.equal(fusion.unimodal(features)["visual"], fusion.head(features["visual"]))
        True
        >>> SharedHead({"audio": 2, "visual": 3}, num_classes=4, hidden=5).hidden
        Linear(in_features=3, out_features=5, bias=True)
    """

    unimodal_rule = "shared_head"

    def __init__(
        self,
        feature_dims: Mapping[str, int],
        num_classes: int,
        *,
        weighting: str | Sequence[float] = "mean",
        dim: int | None = None,
        hidden: int | None = None,
    ) -> None:
        """Build the head, and an adapter for each modality of another width.

        Args:
            feature_dims: Modality -> width of its feature.
            num_classes: Number of classes C.
            weighting: ``mean``, ``entropy``, ``batch_entropy``, or one weight per modality.
            dim: Width D that all features have; the widest one's by default.
            hidden: Width of a hidden layer with ReLU before the head; None for no such layer.

        Raises:
            ConfigError: If ``dim`` or ``hidden`` is below 1, or the weighting is unknown or of a
                wrong number.
        """
        super().__init__(feature_dims, num_classes, weighting=weighting)
        for option, value in (("dim", dim), ("hidden", hidden)):
            if value is not None and value < 1:
                raise ConfigError(f"fusion {option} must be at least 1, got {value}")
        width = dim or max(feature_dims.values())
        self.adapters = nn.ModuleDict(
            {
                name: linear(feature_width, width)
                for name, feature_width in feature_dims.items()
                if feature_width != width
            }
        )
        self.hidden = linear(width, hidden) if hidden else None
        self.head = linear(hidden or width, num_classes)

    def head_input(self, name: str, feature: Tensor) -> Tensor:
        """Map a modality's feature (B, D_m) to the head's input (B, D), where they differ."""
        adapted = self.adapters[name](feature) if name in self.adapters else feature
        return adapted if self.hidden is None else self.hidden(adapted).relu()

    def unimodal(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Compute the head's logits of each modality's feature."""
        return {
            name: self.head(self.head_input(name, features[name])) for name in self.feature_dims
        }
