"""A small convolutional network for small images and spectrograms."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from mla_lightning.encoders.base import Encoder, check_at_least, over_frames


class SmallCNN(Encoder):
    """Three strided 3x3 convolutions (16, 32, out_features channels), batch norm, average.

    Inputs (B, in_channels, H, W) with H, W >= 8, or frames (B, in_channels, T, H, W) whose features
    are averaged; about 24 thousand parameters at width 64.
    """

    def __init__(
        self, in_channels: int = 3, *, out_features: int = 64, channels_last: bool = True
    ) -> None:
        """Build the layers.

        Args:
            in_channels: Channels of the input.
            out_features: Width of the feature.
            channels_last: Keep maps channels-last in memory: the same function, faster.

        Raises:
            ConfigError: If a size is below 1.
        """
        super().__init__()
        check_at_least(1, in_channels=in_channels, out_features=out_features)
        self.in_channels, self.out_features = in_channels, out_features
        self.channels_last = channels_last
        layers: list[nn.Module] = []
        for channels, following in pairwise((in_channels, 16, 32, out_features)):
            layers += [
                nn.Conv2d(channels, following, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(following),
                nn.ReLU(inplace=True),
            ]
        self.layers = nn.Sequential(*layers)
        if channels_last:
            self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor) -> Tensor:
        """Encode images, or films as the mean over their frames.

        Args:
            x: (B, in_channels, H, W) or (B, in_channels, T, H, W).

        Returns:
            (B, out_features).

        Raises:
            ConfigError: If the input has another shape.
        """
        self.require(
            x.ndim in (4, 5) and x.shape[1] == self.in_channels and min(x.shape[-2:]) >= 8,
            x,
            f"images (B, {self.in_channels}, H, W) or video (B, {self.in_channels}, T, H, W), "
            "H and W at least 8",
        )
        return over_frames(self._encode, x)

    def _encode(self, x: Tensor) -> Tensor:
        if self.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        return self.layers(x).mean(dim=(2, 3))
