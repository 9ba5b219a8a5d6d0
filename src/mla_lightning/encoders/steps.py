"""Nothing: a sequence as it is."""

from __future__ import annotations

from torch import Tensor

from mla_lightning.encoders.base import Encoder, check_at_least


class Steps(Encoder):
    """Hands sequences (B, T, in_features) on as they are, for fusions that attend to steps."""

    gives_sequences = True

    def __init__(self, in_features: int) -> None:
        """Remember the width.

        Args:
            in_features: Width of a step.

        Raises:
            ConfigError: If it is below 1.
        """
        super().__init__()
        check_at_least(1, in_features=in_features)
        self.step_features = self.out_features = in_features

    def forward(self, x: Tensor) -> Tensor:
        """Return the input.

        Args:
            x: (B, T, in_features).

        Returns:
            The same.

        Raises:
            ConfigError: If it has another shape.
        """
        width = self.step_features
        self.require(x.ndim == 3 and x.shape[2] == width, x, f"sequences (B, T, {width})")
        return x
