"""Fusions of MMIN and IF-MMIN: a classifier on the codes of a residual cascade."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mla_lightning.errors import ConfigError
from mla_lightning.fusion.imagination import (
    ImaginedFusion,
    InvariantCascade,
    ResidualCascade,
    build_mlp,
)


class LatentCodes(ImaginedFusion):
    """MMIN's imagination network, and a classifier on its latent codes.

    Two networks are used in training only: ``backward_imagination`` maps the reconstruction back to
    the features, and ``full_classifier`` is the classifier of the pretraining on complete samples.

    Single modality, ``others_missing``: the same network with all other modalities absent.

    Example:
        >>> fusion = LatentCodes({"audio": 2, "text": 3}, 4, layers=(6, 4), num_blocks=2)
        >>> features = {"audio": torch.randn(5, 2), "text": torch.randn(5, 3)}
        >>> fusion(features).shape
        torch.Size([5, 4])
        >>> reconstruction, codes = fusion.imagination(fusion.join(features))
        >>> reconstruction.shape, codes.shape
        (torch.Size([5, 5]), torch.Size([5, 8]))
    """

    def __init__(
        self,
        feature_dims: Mapping[str, int],
        num_classes: int,
        *,
        layers: Sequence[int] = (256, 128, 64),
        num_blocks: int = 5,
        hidden: Sequence[int] = (128, 128),
        dropout: float = 0.5,
    ) -> None:
        """Build the networks.

        Args:
            feature_dims: Modality -> width of its feature.
            num_classes: Number of classes C.
            layers: Widths of the encoding layers of each block.
            num_blocks: Number of blocks of a cascade.
            hidden: Widths of the hidden layers of the classifiers.
            dropout: Dropout of the classifiers.

        Raises:
            ConfigError: If a number is below 1.
        """
        super().__init__(feature_dims, num_classes)
        width = sum(feature_dims.values())
        self.imagination = ResidualCascade(width, layers, num_blocks)
        self.backward_imagination = ResidualCascade(width, layers, num_blocks)
        code_width = self.imagination.latent_width
        self.classifier = build_mlp((code_width, *hidden, num_classes), dropout)
        self.full_classifier = build_mlp((width, *hidden, num_classes), dropout)

    def classify(self, joined: Tensor) -> Tensor:
        """Compute logits (B, C) of the codes of concatenated features (B, sum of widths)."""
        return self.classifier(self.imagination(joined)[1])


class InvariantCodes(ImaginedFusion):
    """IF-MMIN's imagination network, guided by invariant features, and a classifier on its codes.

    One map, the same for all modalities, computes the modality-invariant features, so all features
    must have one width. ``full_classifier`` is that of the pretraining on complete samples.

    Single modality, ``others_missing``: the same network with all other modalities absent.

    Example:
        >>> fusion = InvariantCodes({"audio": 3, "text": 3}, 4, layers=(6, 4), num_blocks=2)
        >>> features = {"audio": torch.randn(5, 3), "text": torch.randn(5, 3)}
        >>> fusion(features).shape
        torch.Size([5, 4])

        The modalities share one map, so equal features have equal invariant features:

        >>> invariant = fusion.invariant({"audio": features["audio"], "text": features["audio"]})
        >>> torch.equal(invariant[:, :3], invariant[:, 3:])
        True
    """

    def __init__(
        self,
        feature_dims: Mapping[str, int],
        num_classes: int,
        *,
        layers: Sequence[int] = (256, 128, 64),
        num_blocks: int = 5,
        hidden: Sequence[int] = (128, 128),
        dropout: float = 0.5,
        variant: str = "head",
    ) -> None:
        """Build the networks.

        Args:
            feature_dims: Modality -> width of its feature, all equal.
            num_classes: Number of classes C.
            layers: Widths of the encoding layers of each block.
            num_blocks: Number of blocks of the cascade.
            hidden: Widths of the hidden layers of the classifiers.
            dropout: Dropout of the classifiers.
            variant: ``head`` or ``2022``, see
                :class:`~mla_lightning.fusion.imagination.InvariantCascade`.

        Raises:
            ConfigError: If widths differ, the variant is unknown, or a number is below 1.
        """
        super().__init__(feature_dims, num_classes)
        distinct_widths = set(feature_dims.values())
        if len(distinct_widths) > 1:
            raise ConfigError(
                f"IF-MMIN has one map for all modalities, so all features need the same width, got "
                f"{dict(feature_dims)}. Give the encoders equal out_features."
            )
        (feature_width,) = distinct_widths
        width = sum(feature_dims.values())
        leaky = torch.nn.LeakyReLU(0.01)
        self.shared = torch.nn.Sequential(
            torch.nn.Linear(feature_width, feature_width),
            leaky,
            torch.nn.Linear(feature_width, feature_width),
            leaky,
        )
        self.imagination = InvariantCascade(width, layers, num_blocks, variant)
        code_width = self.imagination.latent_width
        self.classifier = build_mlp((code_width, *hidden, num_classes), dropout)
        self.full_classifier = build_mlp((2 * width, *hidden, num_classes), dropout)

    def invariant(self, features: Mapping[str, Tensor]) -> Tensor:
        """Compute the invariant feature of each modality and join them: (B, sum of widths)."""
        return torch.cat([self.shared(features[name]) for name in self.feature_dims], dim=1)

    def classify(self, joined: Tensor) -> Tensor:
        """Compute logits (B, C) of the codes of concatenated features (B, sum of widths)."""
        widths = list(self.feature_dims.values())
        features = dict(zip(self.feature_dims, joined.split(widths, dim=1), strict=True))
        return self.classifier(self.imagination.imagine(joined, self.invariant(features))[1])
