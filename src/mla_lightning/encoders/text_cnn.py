"""Convolutional encoder for sequences of word vectors (Kim 2014)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from mla_lightning.encoders.base import Encoder, check_at_least
from mla_lightning.errors import ConfigError


class TextCNN(Encoder):
    """Convolutions over words, the maximum over time, and a linear layer: MMIN's text encoder.

    Inputs are sequences of word vectors (B, T, in_features); steps of zeros are padding.

    Example:
        >>> encoder = TextCNN(in_features=6, kernels=(3, 5), channels=16, out_features=8)
        >>> encoder(torch.randn(5, 20, 6)).shape
        torch.Size([5, 8])
        >>> encoder(torch.randn(5, 2, 6)).shape  # shorter than a filter: padded with zeros
        torch.Size([5, 8])
    """

    takes_sequences = True

    def __init__(
        self,
        in_features: int,
        *,
        kernels: Sequence[int] = (3, 4, 5),
        channels: int = 128,
        dropout: float = 0.5,
        out_features: int = 128,
    ) -> None:
        """Build the layers.

        Args:
            in_features: Width of a word's vector.
            kernels: Widths of the filters in words, one convolution for each number.
            channels: Number of filters of each convolution.
            dropout: Fraction of the maxima dropped in training, in [0, 1).
            out_features: Width of the feature.

        Raises:
            ConfigError: If a size is below 1 or ``dropout`` is out of range.
        """
        super().__init__()
        check_at_least(1, in_features=in_features, channels=channels, out_features=out_features)
        if not kernels or min(kernels) < 1 or not 0 <= dropout < 1:
            raise ConfigError(
                f"kernels must be >= 1 and dropout in [0, 1), got {list(kernels)} and {dropout}"
            )
        self.in_features, self.out_features = in_features, out_features
        self.convolutions = nn.ModuleList(
            nn.Conv1d(in_features, channels, width) for width in kernels
        )
        self.min_length = max(kernels)
        self.out = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(len(kernels) * channels, out_features), nn.ReLU()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Encode sequences; those shorter than the widest filter are padded with zeros.

        Args:
            x: Sequences of word vectors (B, T, in_features).

        Returns:
            Features (B, out_features).

        Raises:
            ConfigError: If the input has another shape.
        """
        width = self.in_features
        self.check_input(x.ndim == 3 and x.shape[2] == width, x, f"sequences (B, T, {width})")
        x = pad(x.transpose(1, 2), (0, max(0, self.min_length - x.shape[1])))
        highest = [layer(x).relu().amax(dim=2) for layer in self.convolutions]
        return self.out(torch.cat(highest, dim=1))
