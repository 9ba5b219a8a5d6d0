"""A recurrent network for sequences of frames."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mla_lightning.encoders.base import Encoder, check_at_least
from mla_lightning.functional.sequences import steps_there


class LSTM(Encoder):
    """One LSTM layer, and the maximum of its outputs over time: MMIN's audio and visual encoder.

    Inputs (B, T, in_features). Steps of zeros alone are padding and take no part in the maximum;
    in MMIN's code they do.
    """

    def __init__(self, in_features: int, *, out_features: int = 128) -> None:
        """Build the layer.

        Args:
            in_features: Width of a step.
            out_features: Width of the feature.

        Raises:
            ConfigError: If a size is below 1.
        """
        super().__init__()
        check_at_least(1, in_features=in_features, out_features=out_features)
        self.step_features, self.out_features = in_features, out_features
        self.layer = nn.LSTM(in_features, out_features, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        """Encode sequences.

        Args:
            x: (B, T, in_features).

        Returns:
            (B, out_features); zeros for a sequence without a step.

        Raises:
            ConfigError: If the input has another shape.
        """
        width = self.step_features
        self.require(x.ndim == 3 and x.shape[2] == width, x, f"sequences (B, T, {width})")
        outputs, _ = self.layer(x)
        there = steps_there(x)
        highest = outputs.masked_fill(~there[:, :, None], -torch.inf).amax(dim=1)
        return torch.where(there.any(dim=1, keepdim=True), highest, 0.0)
