"""Identity encoder for sequences."""

from __future__ import annotations

from torch import Tensor

from mla_lightning.encoders.base import Encoder, check_at_least


class Steps(Encoder):
    """Identity for sequences (B, T, in_features), for fusions that attend to single steps.

    Example:
        >>> import torch
        >>> encoder = Steps(in_features=3)
        >>> x = torch.randn(5, 20, 3)
        >>> encoder(x) is x
        True
        >>> encoder.out_features, encoder.gives_sequences
        (3, True)
    """

    takes_sequences = True
    gives_sequences = True

    def __init__(self, in_features: int) -> None:
        """Store the width.

        Args:
            in_features: Width of a step, and of the feature.

        Raises:
            ConfigError: If it is below 1.
        """
        super().__init__()
        check_at_least(1, in_features=in_features)
        self.in_features = self.out_features = in_features

    def forward(self, x: Tensor) -> Tensor:
        """Return the input.

        Args:
            x: Sequences (B, T, in_features).

        Returns:
            The same tensor.

        Raises:
            ConfigError: If it has another shape.
        """
        width = self.in_features
        self.check_input(x.ndim == 3 and x.shape[2] == width, x, f"sequences (B, T, {width})")
        return x
