"""Small convolutional encoder for small images and spectrograms."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from mla_lightning.encoders.base import Encoder, check_at_least, mean_over_frames


class SmallCNN(Encoder):
    """Three strided 3x3 convolutions with batch norm and ReLU, and averages over space.

    The convolutions have 16, 32 and out_features channels: about 24 thousand parameters at
    out_features 64. Inputs are images (B, in_channels, H, W) with H, W >= 8, or videos
    (B, in_channels, T, H, W), whose feature is the mean over the frames.

    The average over the whole space does not tell where in an image something is: of a spectrogram,
    neither at which frequency nor when. With ``grid``, each of grid x grid areas has its average,
    and a linear layer maps them to the feature: 66 thousand parameters more at grid 4.

    Example:
        >>> encoder = SmallCNN(in_channels=3, out_features=8).eval()
        >>> image = torch.rand(5, 3, 32, 24)
        >>> encoder(image).shape
        torch.Size([5, 8])
        >>> video = torch.stack([image, image], dim=2)  # two equal frames
        >>> torch.allclose(encoder(video), encoder(image), atol=1e-6)
        True
        >>> low, high = torch.zeros(2, 1, 1, 40, 40)
        >>> low[..., 8:12], high[..., 24:28] = 1.0, 1.0  # tones of two frequencies, far from edges
        >>> tones = torch.stack([low, high])
        >>> means, areas = (SmallCNN(1, grid=grid).eval()(tones) for grid in (None, 4))
        >>> torch.allclose(*means, atol=1e-6), torch.allclose(*areas, atol=1e-6)
        (True, False)
    """

    def __init__(
        self,
        in_channels: int = 3,
        *,
        out_features: int = 64,
        channels_last: bool = True,
        grid: int | None = None,
    ) -> None:
        """Build the layers.

        Args:
            in_channels: Channels of the input.
            out_features: Width of the feature.
            channels_last: Whether tensors are stored channels-last in memory: faster, with the same
                results.
            grid: Number of areas along each axis that are averaged; None for the average over the
                whole space.

        Raises:
            ConfigError: If a size is below 1.
        """
        super().__init__()
        sizes = {"in_channels": in_channels, "out_features": out_features}
        check_at_least(1, **sizes, **({} if grid is None else {"grid": grid}))
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
        self.grid = grid
        if grid is not None:
            self.out = nn.Linear(grid * grid * out_features, out_features)
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
        h = self.layers(x)
        if self.grid is None:
            return h.mean(dim=(2, 3))
        # As adaptive_avg_pool2d, whose gradient on GPUs is not deterministic.
        rows, columns = (_area_means(size, self.grid).to(h) for size in h.shape[2:])
        return self.out((rows @ h @ columns.T).flatten(1))


def _area_means(size: int, num_areas: int) -> Tensor:
    """Compute the matrix (num_areas, size) of averages over areas, which overlap by at most one."""
    number, position = torch.arange(num_areas)[:, None], torch.arange(size)
    first, end = number * size // num_areas, -(-(number + 1) * size // num_areas)
    is_inside = ((position >= first) & (position < end)).float()
    return is_inside / is_inside.sum(dim=1, keepdim=True)
