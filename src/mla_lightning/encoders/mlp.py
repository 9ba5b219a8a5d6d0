"""Multi-layer perceptron for feature vectors."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from mla_lightning.encoders.base import Encoder, check_at_least
from mla_lightning.errors import ConfigError


class MLP(Encoder):
    """Linear layers with ReLU and dropout between them, for vectors (B, in_features).

    Example:
        >>> import torch
        >>> encoder = MLP(6, hidden=32, out_features=8, num_layers=3)
        >>> encoder(torch.randn(5, 6)).shape
        torch.Size([5, 8])
        >>> [layer.out_features for layer in encoder.layers if isinstance(layer, nn.Linear)]
        [32, 32, 8]
    """

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
            dropout: Fraction of hidden units dropped in training, in [0, 1).

        Raises:
            ConfigError: If a size is below 1 or ``dropout`` is out of range.
        """
        super().__init__()
        check_at_least(
            1,
            in_features=in_features,
            hidden=hidden,
            out_features=out_features,
            num_layers=num_layers,
        )
        if not 0 <= dropout < 1:
            raise ConfigError(f"dropout must be in [0, 1), got {dropout}")
        self.in_features, self.out_features = in_features, out_features
        widths = [in_features, *[hidden] * (num_layers - 1), out_features]
        layers: list[nn.Module] = []
        for in_width, out_width in pairwise(widths):
            layers += [nn.Linear(in_width, out_width), nn.ReLU(), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*layers[:-2])

    def forward(self, x: Tensor) -> Tensor:
        """Encode vectors.

        Args:
            x: Vectors (B, in_features).

        Returns:
            Features (B, out_features).

        Raises:
            ConfigError: If the input has another shape.
        """
        self.check_input(
            x.ndim == 2 and x.shape[1] == self.in_features, x, f"vectors (B, {self.in_features})"
        )
        return self.layers(x)
