"""A multi-layer perceptron for feature vectors."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from mla_lightning.encoders.base import Encoder


class MLP(Encoder):
    """Linear layers with ReLU in between, for inputs (B, in_features)."""

    def __init__(
        self,
        in_features: int,
        *,
        hidden: int = 64,
        out_features: int = 64,
        num_layers: int = 2,
        dropout: float = 0.0,
    ) -> None:
        """Build the layers.

        Args:
            in_features: Width of the input.
            hidden: Width of the hidden layers.
            out_features: Width of the feature.
            num_layers: Number of linear layers, >= 1.
            dropout: Share of hidden units dropped in training, in [0, 1).

        Raises:
            ValueError: If ``num_layers`` is below 1.
        """
        super().__init__()
        if num_layers < 1:
            raise ValueError(f"num_layers must be at least 1, got {num_layers}")
        self.out_features = out_features
        widths = [in_features, *[hidden] * (num_layers - 1), out_features]
        layers: list[nn.Module] = []
        for width, following in pairwise(widths):
            layers += [nn.Linear(width, following), nn.ReLU(), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*layers[:-2])

    def forward(self, x: Tensor) -> Tensor:
        """Encode vectors (B, in_features)."""
        self.expect(x, 2, "vectors (B, features)")
        return self.layers(x.flatten(1))
