"""LSTM encoder for sequences."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mla_lightning.encoders.base import Encoder, check_at_least
from mla_lightning.functional.sequences import is_present_step


class LSTM(Encoder):
    """One LSTM layer, and the maximum of its outputs over time: MMIN's audio and visual encoder.

    Inputs are sequences (B, T, in_features). Steps that are all zero are padding and do not enter
    the maximum; in MMIN's code they do.

    Example:
        Padding has no effect:

        >>> encoder = LSTM(in_features=3, out_features=8)
        >>> x = torch.randn(5, 20, 3)
        >>> encoder(x).shape
        torch.Size([5, 8])
        >>> padded = torch.nn.functional.pad(x, (0, 0, 0, 10))  # ten steps of zeros at the end
        >>> torch.allclose(encoder(padded), encoder(x), atol=1e-6)
        True
    """

    takes_sequences = True

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
        self.in_features, self.out_features = in_features, out_features
        self.layer = nn.LSTM(in_features, out_features, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        """Encode sequences.

        Args:
            x: Sequences (B, T, in_features).

        Returns:
            Features (B, out_features); zeros for a sequence of padding alone.

        Raises:
            ConfigError: If the input has another shape.
        """
        width = self.in_features
        self.check_input(x.ndim == 3 and x.shape[2] == width, x, f"sequences (B, T, {width})")
        outputs, _ = self.layer(x)
        is_step = is_present_step(x)
        highest = outputs.masked_fill(~is_step[:, :, None], -torch.inf).amax(dim=1)
        return torch.where(is_step.any(dim=1, keepdim=True), highest, 0.0)
