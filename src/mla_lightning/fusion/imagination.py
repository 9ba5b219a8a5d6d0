"""What imagines absent modalities from present ones: autoencoders and residual cascades."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from mla_lightning.errors import ConfigError
from mla_lightning.fusion.base import Fusion, Present


def perceptron(widths: Sequence[int], dropout: float = 0.0) -> nn.Sequential:
    """Build linear layers with ReLU and dropout between them, none after the last."""
    layers: list[nn.Module] = []
    for number, (before, after) in enumerate(pairwise(widths), start=2):
        layers.append(nn.Linear(before, after))
        if number < len(widths):
            layers += [nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers)


def autoencoder(width: int, layers: Sequence[int]) -> nn.Sequential:
    """Build GCNet's fully connected autoencoder.

    LeakyReLU after every encoding layer, the last too, and after decoding ones but the last, which
    has ReLU.

    Args:
        width: Width of what goes in and comes out.
        layers: Widths of the encoding layers.

    Returns:
        The network.
    """
    parts: list[nn.Module] = []
    for before, after in pairwise((width, *layers)):
        parts += [nn.Linear(before, after), nn.LeakyReLU(0.01)]
    back = (*reversed(layers), width)
    for before, after in pairwise(back):
        parts += [nn.Linear(before, after), nn.LeakyReLU(0.01)]
    parts[-1] = nn.ReLU()
    return nn.Sequential(*parts)


class ResidualCascade(nn.Module):
    r"""Cascaded residual autoencoders (Tran et al. 2017; the form of MMIN's code).

    :math:`x_0 = f, \Delta_0 = 0; x_k = x_{k-1} + \Delta_{k-1}, z_k = E_k(x_k), \Delta_k =
    D_k(z_k)`, and out comes :math:`W_2 \mathrm{ReLU}(W_1 (x_B + \Delta_B))`.
    """

    def __init__(self, width: int, layers: Sequence[int], num_blocks: int) -> None:
        """Build the blocks.

        Args:
            width: Width of what goes in and comes out.
            layers: Widths of each block's encoding layers.
            num_blocks: Number of blocks B.

        Raises:
            ConfigError: If a number is below 1.
        """
        super().__init__()
        if num_blocks < 1 or not layers or min(layers) < 1:
            raise ConfigError(f"layers {list(layers)} and num_blocks {num_blocks} must be >= 1")
        self.encoders = nn.ModuleList(_stack((width, *layers), nn.LeakyReLU(0.01), num_blocks))
        self.decoders = nn.ModuleList(_stack((*reversed(layers), width), nn.ReLU(), num_blocks))
        self.transition = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
        self.latent_width = layers[-1] * num_blocks

    def forward(self, f: Tensor) -> tuple[Tensor, Tensor]:
        """Imagine.

        Args:
            f: (B, width).

        Returns:
            What comes out (B, width), and the latent codes of all blocks (B, latent_width).
        """
        x, delta = f, torch.zeros_like(f)
        codes = []
        for encode, decode in zip(self.encoders, self.decoders, strict=True):
            x = x + delta
            codes.append(encode(x))
            delta = decode(codes[-1])
        return self.transition(x + delta), torch.cat(codes, dim=1)


class InvariantCascade(ResidualCascade):
    r"""IF-MMIN's cascade: the invariant feature c goes into every block.

    Since September 2024 (``head``): :math:`o_0 = h; o_k = D_k(E_k(o_{k-1} + c))`, and out comes the
    transition of :math:`o_B`. At first (``2022``): :math:`i_k = i_{k-1} + c; o_k = D_k(E_k(i_k))`,
    and the transition of :math:`i_B + o_B`.
    """

    def __init__(
        self, width: int, layers: Sequence[int], num_blocks: int, variant: str = "head"
    ) -> None:
        """Build the blocks.

        Args:
            width: Width of what goes in and comes out.
            layers: Widths of each block's encoding layers.
            num_blocks: Number of blocks.
            variant: ``head`` or ``2022``.

        Raises:
            ConfigError: If the variant is unknown or a number below 1.
        """
        if variant not in ("head", "2022"):
            raise ConfigError(f"variant must be head or 2022, got {variant!r}")
        super().__init__(width, layers, num_blocks)
        self.variant = variant

    def imagine(self, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Imagine from features h and invariant features c, (B, width) each."""
        x, codes = h, []
        out = h
        for encode, decode in zip(self.encoders, self.decoders, strict=True):
            x = (out if self.variant == "head" else x) + c
            codes.append(encode(x))
            out = decode(codes[-1])
        last = out if self.variant == "head" else x + out
        return self.transition(last), torch.cat(codes, dim=1)


def _stack(widths: Sequence[int], between: nn.Module, count: int) -> list[nn.Sequential]:
    found = []
    for _ in range(count):
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), between]
        found.append(nn.Sequential(*layers[:-1]))
    return found


class ImaginedFusion(Fusion):
    """Joined features, absent ones zero, go through a network that imagines; then a classifier.

    Single modality: the same network, all other modalities absent.
    """

    unimodal_rule = "others_missing"

    def forward(self, features: Mapping[str, Tensor], present: Present = None) -> Tensor:
        """Classify what is imagined."""
        return self.classified(self.joined(features, present))

    def joined(self, features: Mapping[str, Tensor], present: Present = None) -> Tensor:
        """Join the modalities' features, absent ones zero: (B, sum of widths)."""
        given = self.zeroed(features, present)
        return torch.cat([given[name] for name in self.feature_dims], dim=1)

    def classified(self, joined: Tensor) -> Tensor:
        """Compute logits (B, C) of joined features (B, sum of widths)."""
        raise NotImplementedError

    def unimodal(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Answer by each modality as if the others were absent."""
        return {name: self.forward(self.only(name, features)) for name in self.feature_dims}


class AutoencodedFusion(ImaginedFusion):
    """An autoencoder or a residual cascade on joined features, and a perceptron on what comes out.

    The fusion of AE and CRA as GCNet's comparison has them.
    """

    def __init__(
        self,
        feature_dims: Mapping[str, int],
        num_classes: int,
        *,
        layers: Sequence[int] = (256, 128),
        num_blocks: int | None = None,
        hidden: Sequence[int] = (128, 128),
        dropout: float = 0.5,
    ) -> None:
        """Build the networks.

        Args:
            feature_dims: Modality -> width of its feature.
            num_classes: Number of classes C.
            layers: Widths of the encoding layers.
            num_blocks: Blocks of the residual cascade (CRA); None for one autoencoder (AE).
            hidden: Widths of the classifier's hidden layers.
            dropout: Dropout of the classifier.
        """
        super().__init__(feature_dims, num_classes)
        width = sum(feature_dims.values())
        self.is_cascade = num_blocks is not None
        self.imagination: nn.Module = (
            autoencoder(width, layers)
            if num_blocks is None
            else ResidualCascade(width, layers, num_blocks)
        )
        self.classifier = perceptron((width, *hidden, num_classes), dropout)

    def imagined(self, joined: Tensor) -> Tensor:
        """Imagine the whole of joined features: (B, sum of widths)."""
        found = self.imagination(joined)
        return found[0] if self.is_cascade else found

    def classified(self, joined: Tensor) -> Tensor:
        """Classify what is imagined."""
        return self.classifier(self.imagined(joined))
