"""Small convolutional encoder for small images and spectrograms."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from mla_lightning.encoders.base import Encoder, check_at_least, mean_over_frames


class SmallCNN(Encoder):
    """Three strided 3x3 convolutions with batch norm and ReLU, and the average over space.

    The convolutions have 16, 32 and out_features channels: about 24 thousand parameters at
    out_features 64. Inputs are images (B, in_channels, H, W) with H, W >= 8, or videos
    (B, in_channels, T, H, W), whose feature is the mean over the frames.

    Example:
        >>> encoder = SmallCNN(in_channels=3, out_features=8).eval()
        >>> image = torch.rand(5, 3, 32, 24)
        >>> encoder(image).shape
        torch.Size([5, 8])
        >>> video = torch.stack([image, image], dim=2)  # two equal frames
        >>> torch.allclose(encoder(video), encoder(image), atol=1e-6)
        True
    """

    def __init__(
        self, in_channels: int = 3, *, out_features: int = 64, channels_last: bool = True
    ) -> None:
        """Build the layers.

        Args:
            in_channels: Channels of the input.
            out_features: Width of the feature.
            channels_last: Whether tensors are stored channels-last in memory: faster, with the same
                results.

        Raises:
            ConfigError: If a size is below 1.
        """
        super().__init__()
        check_at_least(1, in_channels=in_channels, out_features=out_features)
        self.in_channels, self.out_features = in_channels, out_features
        self.channels_last = channels_last
        layers: list[nn.Module] = []
        for channels, out_channels in pairwise((in_channels, 16, 32, out_features)):
            layers += [
                nn.Conv2d(channels, out_channels, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(out_channels),
                nn.ReLU(inplace=True),
            ]
        self.layers = nn.Sequential(*layers)
        if channels_last:
            self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor) -> Tensor:
        """Encode images, or videos as the mean over their frames.

        Args:
            x: Images (B, in_channels, H, W) or videos (B, in_channels, T, H, W).

        Returns:
            Features (B, out_features).

        Raises:
            ConfigError: If the input has another shape.
        """
        self.check_input(
            x.ndim in (4, 5) and x.shape[1] == self.in_channels and min(x.shape[-2:]) >= 8,
            x,
            f"images (B, {self.in_channels}, H, W) or video (B, {self.in_channels}, T, H, W), "
            "H and W at least 8",
        )
        return mean_over_frames(self._encode, x)

    def _encode(self, x: Tensor) -> Tensor:
        if self.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        return self.layers(x).mean(dim=(2, 3))
