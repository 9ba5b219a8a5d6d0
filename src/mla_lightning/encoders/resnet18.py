"""ResNet-18 for spectrograms and video frames, as MLA and OGM-GE use it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mla_lightning.encoders.base import Encoder


class ResNet18(Encoder):
    """The body of torchvision's ResNet-18, with its parameter names, without its classifier.

    Differences: any number of input channels (1 for spectrograms), and video: frames of
    (B, C, T, H, W) go through the network as a batch of B * T images, and the average runs over
    T, H and W. Feature width 512. From scratch, as in the codes of both papers.
    """

    out_features = 512

    def __init__(self, in_channels: int = 3, *, channels_last: bool = True) -> None:
        """Build the layers.

        Args:
            in_channels: Channels of the input.
            channels_last: Keep maps channels-last in memory: the same function, faster.
        """
        super().__init__()
        self.channels_last = channels_last
        self.conv1 = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = _layer(64, 64, stride=1)
        self.layer2 = _layer(64, 128, stride=2)
        self.layer3 = _layer(128, 256, stride=2)
        self.layer4 = _layer(256, 512, stride=2)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if channels_last:
            self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def maps(self, x: Tensor) -> Tensor:
        """Compute the last layer's maps (B, 512, h, w) of images (B, C, H, W)."""
        if self.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))

    def forward(self, x: Tensor) -> Tensor:
        """Encode images or spectrograms (B, C, H, W), or video (B, C, T, H, W)."""
        if x.ndim == 4:
            return self.maps(x).mean(dim=(2, 3))
        self.expect(x, 5, "images (B, C, H, W) or video (B, C, T, H, W)")
        size, _, num_frames = x.shape[:3]
        frames = x.transpose(1, 2).flatten(0, 1)
        # All maps have one size, so the mean over frames of the means is the 3-D average.
        return self.maps(frames).mean(dim=(2, 3)).view(size, num_frames, -1).mean(dim=1)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        """Build the layers.

        Args:
            in_channels: Channels of the input.
            channels: Channels of the output.
            stride: Stride of the first convolution.
        """
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample: nn.Module | None = None
        if stride != 1 or in_channels != channels:
            shortcut = nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block to maps (B, C, H, W)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(x)) + shortcut)


def _layer(in_channels: int, channels: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        BasicBlock(in_channels, channels, stride), BasicBlock(channels, channels, 1)
    )
