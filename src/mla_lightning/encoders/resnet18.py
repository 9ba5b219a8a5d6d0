"""ResNet-18 for spectrograms and video frames, as MLA and OGM-GE use it."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from mla_lightning.encoders.base import Encoder, check_at_least
from mla_lightning.encoders.checkpoints import Layout, load_tensors, read_tensors
from mla_lightning.errors import ConfigError


class ResNet18(Encoder):
    """ResNet-18 without its classifier (He et al. 2016, Table 1), by default from random weights.

    Parameters have the names of torchvision's. Two things are added: any number of input channels
    (1 for spectrograms), and videos (B, C, T, H, W), whose frames pass through the network as a
    batch of B * T images; the average is over T, H and W. The feature has width 512.

    Example:
        >>> encoder = ResNet18(in_channels=1).eval()
        >>> encoder(torch.rand(2, 1, 64, 33)).shape  # spectrograms
        torch.Size([2, 512])
        >>> encoder(torch.rand(2, 1, 3, 32, 32)).shape  # videos of three frames
        torch.Size([2, 512])
        >>> encoder.maps(torch.rand(2, 1, 64, 33)).shape  # height and width halved five times
        torch.Size([2, 512, 2, 2])
    """

    out_features = 512

    def __init__(
        self,
        in_channels: int = 3,
        *,
        channels_last: bool = True,
        checkpoint: str | None = None,
        stem: Literal["same", "rgb_sum"] = "same",
    ) -> None:
        """Build the layers; convolutions start Kaiming-normal (fan-out), batch norms as identities.

        Args:
            in_channels: Channels of the input.
            channels_last: Whether tensors are stored channels-last in memory: faster on CPUs, and
                on GPUs with half precision, with the same results.
            checkpoint: File of weights with torchvision's names; its classifier is not read.
            stem: How the first convolution of the file is used. ``same``: unchanged; ``rgb_sum``:
                summed over its three colours, for inputs of one channel.

        Raises:
            ConfigError: If ``in_channels`` is below 1, or ``stem`` is unknown or has no effect.
            DataError: If the checkpoint does not fit.
        """
        super().__init__()
        check_at_least(1, in_channels=in_channels)
        if stem not in ("same", "rgb_sum"):
            raise ConfigError(f"stem must be same or rgb_sum, got {stem!r}")
        if stem == "rgb_sum" and (checkpoint is None or in_channels != 1):
            raise ConfigError("stem=rgb_sum needs a checkpoint and in_channels=1")
        self.in_channels, self.channels_last = in_channels, channels_last
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
        if checkpoint is not None:
            self._load(checkpoint, stem)
        if channels_last:
            self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def _load(self, checkpoint: str, stem: str) -> None:
        tensors = read_tensors(checkpoint)
        if stem == "rgb_sum" and "conv1.weight" in tensors:
            tensors["conv1.weight"] = tensors["conv1.weight"].sum(dim=1, keepdim=True)
        names = {name: name for name in self.state_dict()}
        # Files of 2017 and before have no batch counts; the counts have no effect.
        batch_counts = frozenset(name for name in names if name.endswith("num_batches_tracked"))
        layout = Layout("torchvision", names, (r"fc\.(weight|bias)",), batch_counts)
        load_tensors(self, tensors, checkpoint, [layout])

    def maps(self, x: Tensor) -> Tensor:
        """Compute the feature maps of the last layer.

        Args:
            x: Images (B, in_channels, H, W).

        Returns:
            Maps (B, 512, h, w), where h and w are H and W halved five times, rounded up.
        """
        if self.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))

    def forward(self, x: Tensor) -> Tensor:
        """Encode images, spectrograms or videos.

        Args:
            x: Images or spectrograms (B, in_channels, H, W), or videos
                (B, in_channels, T, H, W).

        Returns:
            Features (B, 512).

        Raises:
            ConfigError: If the input has another shape.
        """
        channels = self.in_channels
        self.check_input(
            x.ndim in (4, 5) and x.shape[1] == channels,
            x,
            f"images (B, {channels}, H, W) or video (B, {channels}, T, H, W)",
        )
        if x.ndim == 4:
            return self.maps(x).mean(dim=(2, 3))
        frames = x.transpose(1, 2).flatten(0, 1)
        # All maps have the same size, so the mean over frames of their means is the 3-D average.
        return self.maps(frames).mean(dim=(2, 3)).unflatten(0, (x.shape[0], -1)).mean(dim=1)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut (He et al. 2016, Figure 5, left).

    Example:
        >>> BasicBlock(in_channels=4, channels=8, stride=2)(torch.rand(1, 4, 15, 10)).shape
        torch.Size([1, 8, 8, 5])
    """

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        """Build the layers.

        Args:
            in_channels: Channels of the input.
            channels: Channels of the output.
            stride: Stride of the first convolution, and of the shortcut.
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
        """Apply the block.

        Args:
            x: Maps (B, in_channels, H, W).

        Returns:
            Maps (B, channels, H / stride, W / stride), rounded up.
        """
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(x)) + shortcut)


def _layer(in_channels: int, channels: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        BasicBlock(in_channels, channels, stride), BasicBlock(channels, channels, 1)
    )
