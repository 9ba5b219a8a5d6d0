"""Identity encoder for vectors."""

from __future__ import annotations

from torch import Tensor

from mla_lightning.encoders.base import Encoder, check_at_least


class Vector(Encoder):
    """Identity for vectors (B, in_features), for methods that learn no encoder.

    Example:
        >>> import torch
        >>> encoder = Vector(in_features=3)
        >>> x = torch.randn(5, 3)
        >>> encoder(x) is x
        True
    """

    def __init__(self, in_features: int) -> None:
        """Store the width.

        Args:
            in_features: Width of the input, and of the feature.

        Raises:
            ConfigError: If it is below 1.
        """
        super().__init__()
        check_at_least(1, in_features=in_features)
        self.in_features = self.out_features = in_features

    def forward(self, x: Tensor) -> Tensor:
        """Return the input.

        Args:
            x: Vectors (B, in_features).

        Returns:
            The same tensor.

        Raises:
            ConfigError: If it has another shape.
        """
        width = self.in_features
        self.check_input(x.ndim == 2 and x.shape[1] == width, x, f"vectors (B, {width})")
        return x
