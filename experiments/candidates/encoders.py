"""Several narrow encoders of one modality, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from mla_lightning.encoders import MLP, BagOfTokens
from mla_lightning.encoders.base import Encoder


class SideBySide(Encoder):
    """Encoders of one modality whose features are joined, (B, R * D) for R members.

    Example:
        >>> pair = SideBySide([BagOfTokens(20, out_features=3) for _ in range(2)])
        >>> pair(torch.tensor([[4, 7]])).shape, pair.out_features
        (torch.Size([1, 6]), 6)
    """

    def __init__(self, members: Sequence[Encoder]) -> None:
        """Store the encoders.

        Args:
            members: Encoders of the same input and width.
        """
        super().__init__()
        self.members = nn.ModuleList(members)
        self.out_features = sum(member.out_features for member in members)

    def forward(self, x: Tensor) -> Tensor:
        """Encode (B, ...) with every member, and join the features."""
        return torch.cat([member(x) for member in self.members], dim=1)


class NarrowCNN(Encoder):
    """The small CNN of the package with widths of one's own.

    Example:
        >>> NarrowCNN(3, widths=[11, 23, 45])(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 45])
    """

    def __init__(self, in_channels: int, *, widths: Sequence[int]) -> None:
        """Build the layers.

        Args:
            in_channels: Channels of the input.
            widths: Channels of the convolutions; the last is the width of the feature.
        """
        super().__init__()
        self.out_features = widths[-1]
        layers: list[nn.Module] = []
        for channels, out_channels in pairwise((in_channels, *widths)):
            layers += [
                nn.Conv2d(channels, out_channels, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(out_channels),
                nn.ReLU(inplace=True),
            ]
        self.layers = nn.Sequential(*layers)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor) -> Tensor:
        """Encode images (B, in_channels, H, W) to features (B, widths[-1])."""
        return self.layers(x.contiguous(memory_format=torch.channels_last)).mean(dim=(2, 3))


def narrow_cnns(in_channels: int, *, members: int, widths: Sequence[int]) -> SideBySide:
    """Build narrow CNNs side by side; with half the FLOPs each, two cost what one did.

    Args:
        in_channels: Channels of the input.
        members: Their number R.
        widths: Channels of the convolutions of each.

    Example:
        >>> narrow_cnns(3, members=2, widths=[11, 23, 45]).out_features
        90
    """
    return SideBySide([NarrowCNN(in_channels, widths=widths) for _ in range(members)])


def narrow_bags(num_tokens: int, *, members: int, out_features: int) -> SideBySide:
    """Build bags of tokens side by side.

    Args:
        num_tokens: Number of token ids including padding.
        members: Their number R.
        out_features: Width of the feature of each.

    Example:
        >>> narrow_bags(20, members=2, out_features=3).out_features
        6
    """
    return SideBySide([BagOfTokens(num_tokens, out_features=out_features) for _ in range(members)])


def narrow_mlps(in_features: int, *, members: int, hidden: int, out_features: int) -> SideBySide:
    """Build small MLPs side by side, without dropout.

    Args:
        in_features: Width of the input.
        members: Their number R.
        hidden: Width of the hidden layer of each.
        out_features: Width of the feature of each.

    Example:
        >>> narrow_mlps(6, members=2, hidden=36, out_features=45).out_features
        90
    """
    sizes = {"hidden": hidden, "out_features": out_features}
    return SideBySide(
        [MLP(in_features, num_layers=2, dropout=0.0, **sizes) for _ in range(members)]
    )
