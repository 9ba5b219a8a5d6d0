"""Joined projections with absent inputs replaced by their mean, and a support vector classifier."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import torch
from torch import Tensor

from mla_lightning.errors import ConfigError
from mla_lightning.functional import linear_cca, mean_of_present, padded
from mla_lightning.fusion.base import Fusion, Present, linear


class PaddedFusion(Fusion):
    """Features, absent ones replaced by the training mean of those present; then a linear head.

    The head is fitted in closed form as a linear support vector classifier (scikit-learn's
    LinearSVC in the primal), as in GCNet's code. Single modality: all others replaced by their
    means.
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
        from sklearn.svm import LinearSVC

        x = self.projected(self.padded(features, present)).double().cpu().numpy()
        machine = LinearSVC(C=self.svc_c, dual=False).fit(x, label.cpu().numpy())
        weight, bias = torch.from_numpy(machine.coef_), torch.from_numpy(machine.intercept_)
        if len(weight) == 1:  # two classes: one plane
            weight, bias = torch.cat([-weight, weight]), torch.cat([-bias, bias])
        # Classes without a training sample cannot be answered.
        self.head.weight.zero_()
        self.head.bias.fill_(-1e6)
        self.head.weight[machine.classes_] = weight.to(self.head.weight)
        self.head.bias[machine.classes_] = bias.to(self.head.bias)


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
    ) -> None:
        """Prepare the projections.

        Args:
            feature_dims: Modality -> width of its vector.
            num_classes: Number of classes C.
            num_components: Directions k of each pair; fewer where a modality is narrower.
            ridge: Added to the covariances' diagonals, > 0.
            svc_c: The classifier's cost.

        Raises:
            ConfigError: If a number is out of range.
        """
        if num_components < 1 or ridge <= 0:
            raise ConfigError("fusion num_components must be >= 1 and ridge > 0")
        self.pairs = list(combinations(feature_dims, 2))
        self.widths = {
            pair: min(num_components, *(feature_dims[name] for name in pair)) for pair in self.pairs
        }
        self.ridge = ridge
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
    def learn_projections(self, features: Mapping[str, Tensor]) -> dict[tuple[str, str], float]:
        """Fit each pair.

        Args:
            features: Modality -> padded training vectors (N, D_m).

        Returns:
            Pair -> its largest correlation: 0 where no sample has both, so that directions are
            arbitrary.
        """
        largest = {}
        for pair in self.pairs:
            *weights, correlations = linear_cca(features[pair[0]], features[pair[1]], self.ridge)
            for name, weight in zip(pair, weights, strict=True):
                buffer = getattr(self, self.key(pair, name))
                buffer.copy_(weight[:, : buffer.shape[1]])
            largest[pair] = float(correlations[0])
        return largest
