"""Networks that reconstruct absent modalities from present ones: autoencoders and cascades."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from mla_lightning.errors import ConfigError
from mla_lightning.fusion.base import Fusion, Present


def build_mlp(widths: Sequence[int], dropout: float = 0.0) -> nn.Sequential:
    """Build a multi-layer perceptron with ReLU and dropout after each layer but the last.

    Args:
        widths: Widths of the input, of the hidden layers and of the output.
        dropout: Fraction of hidden units dropped in training.

    Returns:
        The network.

    Example:
        >>> build_mlp((8, 16, 3), dropout=0.5)
        Sequential(
          (0): Linear(in_features=8, out_features=16, bias=True)
          (1): ReLU()
          (2): Dropout(p=0.5, inplace=False)
          (3): Linear(in_features=16, out_features=3, bias=True)
        )
    """
    layers: list[nn.Module] = []
    for number, (in_width, out_width) in enumerate(pairwise(widths), start=2):
        layers.append(nn.Linear(in_width, out_width))
        if number < len(widths):
            layers += [nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers)


def autoencoder(width: int, layers: Sequence[int]) -> nn.Sequential:
    """Build GCNet's fully connected autoencoder.

    LeakyReLU follows every encoding layer, the last one included, and every decoding layer but the
    last, which ReLU follows.

    Args:
        width: Width of the input and of the output.
        layers: Widths of the encoding layers; the decoding layers have them in reverse.

    Returns:
        The network.

    Example:
        >>> network = autoencoder(8, layers=(6, 4))
        >>> [layer.out_features for layer in network if isinstance(layer, nn.Linear)]
        [6, 4, 6, 8]
        >>> network[-1]  # so reconstructions are not negative
        ReLU()
    """
    modules: list[nn.Module] = []
    for in_width, out_width in pairwise((width, *layers)):
        modules += [nn.Linear(in_width, out_width), nn.LeakyReLU(0.01)]
    for in_width, out_width in pairwise((*reversed(layers), width)):
        modules += [nn.Linear(in_width, out_width), nn.LeakyReLU(0.01)]
    modules[-1] = nn.ReLU()
    return nn.Sequential(*modules)


class ResidualCascade(nn.Module):
    r"""Cascade of residual autoencoders (Tran et al. 2017; as in MMIN's code).

    :math:`x_0 = f, \Delta_0 = 0; x_k = x_{k-1} + \Delta_{k-1}, z_k = E_k(x_k), \Delta_k =
    D_k(z_k)`. The output is :math:`W_2 \mathrm{ReLU}(W_1 (x_B + \Delta_B))`.

    Example:
        >>> cascade = ResidualCascade(width=8, layers=(6, 4), num_blocks=3)
        >>> reconstruction, codes = cascade(torch.randn(5, 8))
        >>> reconstruction.shape
        torch.Size([5, 8])
        >>> codes.shape  # the codes of 3 blocks, each 4 wide
        torch.Size([5, 12])
    """

    def __init__(self, width: int, layers: Sequence[int], num_blocks: int) -> None:
        """Build the blocks.

        Args:
            width: Width of the input and of the output.
            layers: Widths of the encoding layers of each block.
            num_blocks: Number of blocks B.

        Raises:
            ConfigError: If a number is below 1.
        """
        super().__init__()
        if num_blocks < 1 or not layers or min(layers) < 1:
            raise ConfigError(f"layers {list(layers)} and num_blocks {num_blocks} must be >= 1")
        self.encoders = nn.ModuleList(_stacks((width, *layers), nn.LeakyReLU(0.01), num_blocks))
        self.decoders = nn.ModuleList(_stacks((*reversed(layers), width), nn.ReLU(), num_blocks))
        self.transition = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
        self.latent_width = layers[-1] * num_blocks

    def forward(self, f: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstruct all modalities from concatenated features.

        Args:
            f: Concatenated features (B, width), absent ones zero.

        Returns:
            The reconstruction (B, width), and the codes of all blocks (B, latent_width).
        """
        x, delta = f, torch.zeros_like(f)
        codes = []
        for encode, decode in zip(self.encoders, self.decoders, strict=True):
            x = x + delta
            codes.append(encode(x))
            delta = decode(codes[-1])
        return self.transition(x + delta), torch.cat(codes, dim=1)


class InvariantCascade(ResidualCascade):
    r"""IF-MMIN's cascade: the modality-invariant feature c is added before every block.

    ``head``, the code since September 2024: :math:`o_0 = h; o_k = D_k(E_k(o_{k-1} + c))`, and the
    output is the transition of :math:`o_B`. ``2022``, the first release: :math:`i_0 = h; i_k =
    i_{k-1} + c; o_k = D_k(E_k(i_k))`, and the output is the transition of :math:`i_B + o_B`.

    Example:
        Both variants have the same weights and differ in the computation alone:

        >>> head = InvariantCascade(8, (6, 4), 3, variant="head")
        >>> first_release = InvariantCascade(8, (6, 4), 3, variant="2022")
        >>> first_release.load_state_dict(head.state_dict())
        <All keys matched successfully>
        >>> h, c = torch.randn(5, 8), torch.randn(5, 8)
        >>> torch.allclose(head.imagine(h, c)[0], first_release.imagine(h, c)[0])
        False
    """

    def __init__(
        self, width: int, layers: Sequence[int], num_blocks: int, variant: str = "head"
    ) -> None:
        """Build the blocks.

        Args:
            width: Width of the input and of the output.
            layers: Widths of the encoding layers of each block.
            num_blocks: Number of blocks B.
            variant: ``head`` or ``2022``.

        Raises:
            ConfigError: If the variant is unknown or a number is below 1.
        """
        if variant not in ("head", "2022"):
            raise ConfigError(f"variant must be head or 2022, got {variant!r}")
        super().__init__(width, layers, num_blocks)
        self.variant = variant

    def imagine(self, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstruct all modalities from concatenated features and invariant features.

        Args:
            h: Concatenated features (B, width), absent ones zero.
            c: Invariant features (B, width).

        Returns:
            The reconstruction (B, width), and the codes of all blocks (B, latent_width).
        """
        x, codes = h, []
        output = h
        for encode, decode in zip(self.encoders, self.decoders, strict=True):
            x = (output if self.variant == "head" else x) + c
            codes.append(encode(x))
            output = decode(codes[-1])
        last = output if self.variant == "head" else x + output
        return self.transition(last), torch.cat(codes, dim=1)


def _stacks(widths: Sequence[int], activation: nn.Module, count: int) -> list[nn.Sequential]:
    """Build equal stacks of linear layers with an activation between them, none after the last."""
    stacks = []
    for _ in range(count):
        layers: list[nn.Module] = []
        for in_width, out_width in pairwise(widths):
            layers += [nn.Linear(in_width, out_width), activation]
        stacks.append(nn.Sequential(*layers[:-1]))
    return stacks


class ImaginedFusion(Fusion):
    """Base class of fusions that reconstruct absent modalities and then classify.

    The features of all modalities are joined, with zeros for absent ones.

    Single modality, ``others_missing``: the same network with all other modalities absent.

    Example:
        >>> class FirstCode(ImaginedFusion):
        ...     def classify(self, joined):
        ...         return joined[:, : self.num_classes]
        >>> fusion = FirstCode({"audio": 2, "text": 1}, num_classes=3)
        >>> features = {"audio": torch.ones(1, 2), "text": torch.ones(1, 1)}
        >>> true = torch.ones(1, dtype=torch.bool)
        >>> fusion(features, present={"audio": true, "text": ~true})
        tensor([[1., 1., 0.]])
    """

    unimodal_rule = "others_missing"
    mixes_modalities = True

    def forward(self, features: Mapping[str, Tensor], present: Present = None) -> Tensor:
        """Compute the fused logits."""
        return self.classify(self.join(features, present))

    def join(self, features: Mapping[str, Tensor], present: Present = None) -> Tensor:
        """Join the features of all modalities, absent ones zero: (B, sum of widths)."""
        features = self.zero_absent(features, present)
        return torch.cat([features[name] for name in self.feature_dims], dim=1)

    def classify(self, joined: Tensor) -> Tensor:
        """Compute logits (B, C) of concatenated features (B, sum of widths)."""
        raise NotImplementedError

    def unimodal(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Compute the logits of each modality with all others absent."""
        return {name: self.forward(self.zero_others(name, features)) for name in self.feature_dims}


class AutoencodedFusion(ImaginedFusion):
    """An autoencoder or residual cascade on concatenated features, and an MLP on its output.

    This is the fusion of AE and CRA in GCNet's comparison. Absent features are zero in the input
    and reconstructed in the output.

    Single modality, ``others_missing``: the same network with all other modalities absent.

    Example:
        >>> features = {"audio": torch.randn(5, 2), "text": torch.randn(5, 3)}
        >>> dims = {"audio": 2, "text": 3}
        >>> AutoencodedFusion(dims, 4, layers=(6, 4))(features).shape  # AE
        torch.Size([5, 4])
        >>> AutoencodedFusion(dims, 4, layers=(6, 4), num_blocks=2)(features).shape  # CRA
        torch.Size([5, 4])
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
            num_blocks: Number of blocks of the residual cascade (CRA); None for one autoencoder
                (AE).
            hidden: Widths of the classifier's hidden layers.
            dropout: Dropout of the classifier.

        Raises:
            ConfigError: If a number of the cascade is below 1.
        """
        super().__init__(feature_dims, num_classes)
        width = sum(feature_dims.values())
        self.is_cascade = num_blocks is not None
        self.imagination: nn.Module = (
            autoencoder(width, layers)
            if num_blocks is None
            else ResidualCascade(width, layers, num_blocks)
        )
        self.classifier = build_mlp((width, *hidden, num_classes), dropout)

    def reconstruct(self, joined: Tensor) -> Tensor:
        """Reconstruct concatenated features (B, sum of widths)."""
        output = self.imagination(joined)
        return output[0] if self.is_cascade else output

    def classify(self, joined: Tensor) -> Tensor:
        """Compute logits (B, C) from the reconstruction of features (B, sum of widths)."""
        return self.classifier(self.reconstruct(joined))
