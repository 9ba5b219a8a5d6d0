"""A classifier on the codes of a residual cascade: what MMIN and IF-MMIN answer with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mla_lightning.errors import ConfigError
from mla_lightning.fusion.imagination import (
    ImaginedFusion,
    InvariantCascade,
    ResidualCascade,
    perceptron,
)


class LatentCodes(ImaginedFusion):
    """MMIN's imagination network and the classifier on its latent codes.

    The backward imagination, which only training needs, is :attr:`backward_imagination`;
    :attr:`full_classifier` is that of the pre-training on complete samples.
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
            layers: Widths of each block's encoding layers.
            num_blocks: Blocks of a cascade.
            hidden: Widths of the classifiers' hidden layers.
            dropout: Dropout of the classifiers.
        """
        super().__init__(feature_dims, num_classes)
        width = sum(feature_dims.values())
        self.imagination = ResidualCascade(width, layers, num_blocks)
        self.backward_imagination = ResidualCascade(width, layers, num_blocks)
        codes = self.imagination.latent_width
        self.classifier = perceptron((codes, *hidden, num_classes), dropout)
        self.full_classifier = perceptron((width, *hidden, num_classes), dropout)

    def classified(self, joined: Tensor) -> Tensor:
        """Classify the codes."""
        return self.classifier(self.imagination(joined)[1])


class InvariantCodes(ImaginedFusion):
    """IF-MMIN's imagination, which a modality-invariant feature guides, and its classifier.

    One map for all modalities makes the invariant features, so all features have one width.
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
            layers: Widths of each block's encoding layers.
            num_blocks: Blocks of the cascade.
            hidden: Widths of the classifiers' hidden layers.
            dropout: Dropout of the classifiers.
            variant: ``head`` or ``2022``, see :class:`InvariantCascade`.

        Raises:
            ConfigError: If widths differ, or the variant is unknown.
        """
        super().__init__(feature_dims, num_classes)
        widths = set(feature_dims.values())
        if len(widths) > 1:
            raise ConfigError(
                f"IF-MMIN has one map for all modalities, so features need one width, got "
                f"{dict(feature_dims)}. Give the encoders equal out_features."
            )
        (one,) = widths
        width = sum(feature_dims.values())
        leaky = torch.nn.LeakyReLU(0.01)
        self.shared = torch.nn.Sequential(
            torch.nn.Linear(one, one), leaky, torch.nn.Linear(one, one), leaky
        )
        self.imagination = InvariantCascade(width, layers, num_blocks, variant)
        codes = self.imagination.latent_width
        self.classifier = perceptron((codes, *hidden, num_classes), dropout)
        self.full_classifier = perceptron((2 * width, *hidden, num_classes), dropout)

    def invariant(self, features: Mapping[str, Tensor]) -> Tensor:
        """Map every modality's feature alike and join them: (B, sum of widths)."""
        return torch.cat([self.shared(features[name]) for name in self.feature_dims], dim=1)

    def classified(self, joined: Tensor) -> Tensor:
        """Classify the codes."""
        widths = list(self.feature_dims.values())
        features = dict(zip(self.feature_dims, joined.split(widths, dim=1), strict=True))
        return self.classifier(self.imagination.imagine(joined, self.invariant(features))[1])
