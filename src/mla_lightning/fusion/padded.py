"""Joined projections with absent inputs replaced by their mean, and a support vector classifier."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import torch
from torch import Tensor

from mla_lightning.errors import ConfigError, near
from mla_lightning.functional import linear_cca, linear_svc, mean_of_present, padded
from mla_lightning.fusion.base import Fusion, Present, linear

FITS = ("padded", "pairwise_complete")


class PaddedFusion(Fusion):
    """Features, absent ones replaced by the training mean of those present; then a linear head.

    The head is fitted to all training samples at once as a linear support vector classifier, as in
    GCNet's code. Single modality: all others replaced by their means.
    """

    unimodal_rule = "others_missing"

    def __init__(
        self, feature_dims: Mapping[str, int], num_classes: int, *, svc_c: float = 0.01
    ) -> None:
        """Prepare means and head.

        Args:
            feature_dims: Modality -> width of its feature.
            num_classes: Number of classes C.
            svc_c: The classifier's cost.

        Raises:
            ConfigError: If ``svc_c`` is not positive.
        """
        if svc_c <= 0:
            raise ConfigError(f"fusion svc_c must be > 0, got {svc_c}")
        super().__init__(feature_dims, num_classes)
        self.svc_c = svc_c
        for name, width in feature_dims.items():
            self.register_buffer(f"mean_{name}", torch.zeros(width))
        self.head = linear(self.head_width(), num_classes)

    def head_width(self) -> int:
        """Width of what the head sees."""
        return sum(self.feature_dims.values())

    def forward(self, features: Mapping[str, Tensor], present: Present = None) -> Tensor:
        """Pad, project, classify."""
        return self.head(self.projected(self.padded(features, present)))

    def padded(self, features: Mapping[str, Tensor], present: Present = None) -> dict[str, Tensor]:
        """Put means in the place of what is absent."""
        if present is None:
            return dict(features)
        return {
            name: padded(features[name], present[name], getattr(self, f"mean_{name}"))
            for name in self.feature_dims
        }

    def projected(self, features: Mapping[str, Tensor]) -> Tensor:
        """Project what the head sees: (B, head_width)."""
        return torch.cat([features[name] for name in self.feature_dims], dim=1)

    def unimodal(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Answer by each modality, means in the place of all others."""
        return self.others_missing(features)

    @torch.no_grad()
    def learn_means(self, features: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> None:
        """Take the means of the training samples that have a modality."""
        for name, h in features.items():
            getattr(self, f"mean_{name}").copy_(mean_of_present(h, present[name]))

    @torch.no_grad()
    def fit_head(self, features: Mapping[str, Tensor], present: Present, label: Tensor) -> None:
        """Fit the support vector classifier to the training samples.

        Args:
            features: Modality -> (N, D_m).
            present: Modality -> (N,) bool.
            label: (N,).
        """
        x = self.projected(self.padded(features, present))
        weight, bias = linear_svc(x, label, self.num_classes, self.svc_c)
        self.head.weight.copy_(weight)
        self.head.bias.copy_(bias)


class CanonicalFusion(PaddedFusion):
    """Each pair of modalities projected by linear CCA, all projections joined."""

    def __init__(
        self,
        feature_dims: Mapping[str, int],
        num_classes: int,
        *,
        num_components: int = 10,
        ridge: float = 1e-4,
        svc_c: float = 0.01,
        fit_on: str = "padded",
    ) -> None:
        """Prepare the projections.

        Args:
            feature_dims: Modality -> width of its vector.
            num_classes: Number of classes C.
            num_components: Directions k of each pair; fewer where a modality is narrower.
            ridge: Added to the covariances' diagonals, > 0.
            svc_c: The classifier's cost.
            fit_on: ``padded``: a pair's directions are fitted to all samples, means for what is
                absent, as in GCNet's code; ``pairwise_complete``: to the samples that have both.

        Raises:
            ConfigError: If a number is out of range or ``fit_on`` unknown.
        """
        if fit_on not in FITS:
            raise ConfigError(
                f"fusion fit_on={fit_on!r} is unknown.{near(fit_on, FITS)} Known: {', '.join(FITS)}"
            )
        if num_components < 1 or ridge <= 0:
            raise ConfigError("fusion num_components must be >= 1 and ridge > 0")
        self.pairs = list(combinations(feature_dims, 2))
        self.widths = {
            pair: min(num_components, *(feature_dims[name] for name in pair)) for pair in self.pairs
        }
        self.ridge, self.fit_on = ridge, fit_on
        super().__init__(feature_dims, num_classes, svc_c=svc_c)
        for pair in self.pairs:
            for name in pair:
                size = (feature_dims[name], self.widths[pair])
                self.register_buffer(self.key(pair, name), torch.zeros(size))

    @staticmethod
    def key(pair: tuple[str, str], name: str) -> str:
        """Name the buffer of a modality's projection in a pair."""
        return f"project_{name}_of_{pair[0]}_{pair[1]}"

    def head_width(self) -> int:
        """Two projections per pair."""
        return 2 * sum(self.widths.values())

    def projected(self, features: Mapping[str, Tensor]) -> Tensor:
        """Project every modality in each of its pairs."""
        parts = []
        for pair in self.pairs:
            for name in pair:
                centred = features[name] - getattr(self, f"mean_{name}")
                parts.append(centred @ getattr(self, self.key(pair, name)))
        return torch.cat(parts, dim=1)

    @torch.no_grad()
    def learn_projections(
        self, features: Mapping[str, Tensor], present: Mapping[str, Tensor]
    ) -> dict[tuple[str, str], int]:
        """Fit each pair.

        Args:
            features: Modality -> training vectors (N, D_m), absent ones of any value.
            present: Modality -> (N,) bool.

        Returns:
            Pair -> number of samples that have both.
        """
        whole, joint = self.padded(features, present), {}
        for pair in self.pairs:
            both = present[pair[0]] & present[pair[1]]
            joint[pair] = int(both.sum())
            rows = both if self.fit_on == "pairwise_complete" else torch.ones_like(both)
            if int(rows.sum()) < 2:
                continue  # no covariance: the pair's projections stay zero
            a, b = (whole[name][rows] for name in pair)
            *weights, _ = linear_cca(a, b, self.ridge)
            for name, weight in zip(pair, weights, strict=True):
                buffer = getattr(self, self.key(pair, name))
                buffer.copy_(weight[:, : buffer.shape[1]])
        return joint
