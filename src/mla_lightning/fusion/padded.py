"""Fusions with mean padding of absent modalities and a linear support vector classifier."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import torch
from torch import Tensor

from mla_lightning.errors import ConfigError, near
from mla_lightning.functional import fill_with_mean, linear_cca, linear_svc, mean_of_present
from mla_lightning.fusion.base import Fusion, Present, linear

#: Samples to which the directions of a pair of modalities are fitted.
FITS = ("padded", "pairwise_complete")


class PaddedFusion(Fusion):
    """A linear head on the concatenated features, with training means in place of absent ones.

    The head is fitted to all training samples at once as a linear support vector classifier, as in
    GCNet's code.

    Single modality, ``others_missing``: the same head with the means of all other modalities.

    Example:
        >>> fusion = PaddedFusion({"audio": 2, "text": 3}, num_classes=2)
        >>> features = {"audio": torch.randn(6, 2), "text": torch.randn(6, 3)}
        >>> has_audio = torch.tensor([True, True, True, False, False, False])
        >>> present = {"audio": has_audio, "text": torch.ones(6, dtype=torch.bool)}
        >>> fusion.learn_means(features, present)
        >>> means = fusion.fill_absent(features, present)["audio"][3:]
        >>> torch.allclose(means, features["audio"][:3].mean(dim=0))
        True
        >>> fusion.fit_head(features, present, label=torch.tensor([0, 1, 0, 1, 0, 1]))
        >>> fusion(features, present).shape
        torch.Size([6, 2])
    """

    unimodal_rule = "others_missing"
    mixes_modalities = True

    def __init__(
        self, feature_dims: Mapping[str, int], num_classes: int, *, svc_c: float = 0.01
    ) -> None:
        """Allocate the means and the head; :meth:`learn_means` and :meth:`fit_head` set them.

        Args:
            feature_dims: Modality -> width of its feature.
            num_classes: Number of classes C.
            svc_c: Cost of the support vector classifier, > 0.

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
        """Return the width of the head's input."""
        return sum(self.feature_dims.values())

    def forward(self, features: Mapping[str, Tensor], present: Present = None) -> Tensor:
        """Compute the fused logits, with means in place of absent features."""
        return self.head(self.project(self.fill_absent(features, present)))

    def fill_absent(
        self, features: Mapping[str, Tensor], present: Present = None
    ) -> dict[str, Tensor]:
        """Replace the features of absent modalities by their training means."""
        if present is None:
            return dict(features)
        return {
            name: fill_with_mean(features[name], present[name], getattr(self, f"mean_{name}"))
            for name in self.feature_dims
        }

    def project(self, features: Mapping[str, Tensor]) -> Tensor:
        """Compute the head's input (B, head_width): here the concatenated features."""
        return torch.cat([features[name] for name in self.feature_dims], dim=1)

    def unimodal(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Compute the logits of each modality, with means in place of all others."""
        return self.unimodal_by_others_missing(features)

    @torch.no_grad()
    def learn_means(self, features: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> None:
        """Store the mean feature of each modality over the training samples that have it.

        Args:
            features: Modality -> training features (N, D_m), absent ones of any value.
            present: Modality -> (N,) bool.

        Raises:
            ValueError: If no training sample has a modality.
        """
        for name, h in features.items():
            getattr(self, f"mean_{name}").copy_(mean_of_present(h, present[name]))

    @torch.no_grad()
    def fit_head(self, features: Mapping[str, Tensor], present: Present, label: Tensor) -> None:
        """Fit the support vector classifier to the training samples.

        Args:
            features: Modality -> training features (N, D_m).
            present: Modality -> (N,) bool; None if nothing is missing.
            label: Classes (N,).
        """
        x = self.project(self.fill_absent(features, present))
        weight, bias = linear_svc(x, label, self.num_classes, self.svc_c)
        self.head.weight.copy_(weight)
        self.head.bias.copy_(bias)


class CanonicalFusion(PaddedFusion):
    """A linear head on the projections of each pair of modalities by linear CCA.

    Each modality is projected once for each pair that it is in; all projections are concatenated.
    Absent modalities are replaced by their training means.

    Single modality, ``others_missing``: the same head with the means of all other modalities.

    Example:
        The projections of a pair correlate along each direction and not across directions:

        >>> _ = torch.manual_seed(0)
        >>> fusion = CanonicalFusion({"audio": 3, "text": 4}, num_classes=2, num_components=2)
        >>> audio = torch.randn(100, 3)
        >>> features = {"audio": audio, "text": audio @ torch.randn(3, 4) + torch.randn(100, 4)}
        >>> true = torch.ones(100, dtype=torch.bool)
        >>> present = {"audio": true, "text": true}
        >>> fusion.learn_means(features, present)
        >>> fusion.learn_projections(features, present)  # samples that have both modalities
        {('audio', 'text'): 100}
        >>> projections = fusion.project(features)
        >>> projections.shape, fusion.head_width()
        (torch.Size([100, 4]), 4)
        >>> correlations = torch.corrcoef(projections.T)[:2, 2:]
        >>> (correlations.diagonal() > 0.5).all().item(), abs(correlations[0, 1].item()) < 1e-3
        (True, True)
    """

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
        """Allocate the projections; :meth:`learn_projections` sets them.

        Args:
            feature_dims: Modality -> width of its vector.
            num_classes: Number of classes C.
            num_components: Directions k of each pair; fewer where a modality is narrower.
            ridge: Added to the diagonals of the covariances, > 0.
            svc_c: Cost of the support vector classifier, > 0.
            fit_on: Samples to which the directions of a pair are fitted. ``padded``: all samples,
                with means in place of absent modalities, as in GCNet's code;
                ``pairwise_complete``: those that have both modalities.

        Raises:
            ConfigError: If a number is out of range or ``fit_on`` is unknown.
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
                self.register_buffer(self.buffer_name(pair, name), torch.zeros(size))

    @staticmethod
    def buffer_name(pair: tuple[str, str], name: str) -> str:
        """Return the name of the buffer with a modality's projection in a pair."""
        return f"project_{name}_of_{pair[0]}_{pair[1]}"

    def head_width(self) -> int:
        """Return the width of the head's input: two projections per pair."""
        return 2 * sum(self.widths.values())

    def project(self, features: Mapping[str, Tensor]) -> Tensor:
        """Compute the head's input (B, head_width): each modality's projection in each pair."""
        projections = []
        for pair in self.pairs:
            for name in pair:
                centred = features[name] - getattr(self, f"mean_{name}")
                projections.append(centred @ getattr(self, self.buffer_name(pair, name)))
        return torch.cat(projections, dim=1)

    @torch.no_grad()
    def learn_projections(
        self, features: Mapping[str, Tensor], present: Mapping[str, Tensor]
    ) -> dict[tuple[str, str], int]:
        """Fit the projections of each pair of modalities by linear CCA.

        Args:
            features: Modality -> training vectors (N, D_m), absent ones of any value.
            present: Modality -> (N,) bool.

        Returns:
            Pair -> number of samples that have both.
        """
        complete, num_joint = self.fill_absent(features, present), {}
        for pair in self.pairs:
            has_both = present[pair[0]] & present[pair[1]]
            num_joint[pair] = int(has_both.sum())
            rows = has_both if self.fit_on == "pairwise_complete" else torch.ones_like(has_both)
            if int(rows.sum()) < 2:
                continue  # no covariance: the pair's projections stay zero
            a, b = (complete[name][rows] for name in pair)
            *weights, _ = linear_cca(a, b, self.ridge)
            for name, weight in zip(pair, weights, strict=True):
                buffer = getattr(self, self.buffer_name(pair, name))
                buffer.copy_(weight[:, : buffer.shape[1]])
        return num_joint
