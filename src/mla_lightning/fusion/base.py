"""The contract of a fusion."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mla_lightning.errors import ConfigError, near
from mla_lightning.functional import (
    batch_entropy_weights,
    entropy_weights,
    fixed_weights,
    fuse_logits,
    mean_weights,
)

#: Presence by modality, each (B,) bool; None means that nothing is missing.
Present = Mapping[str, Tensor] | None


class Fusion(nn.Module, ABC):
    """Turns features by modality into fused logits and into each modality's own logits.

    Both are reported for every method, so every fusion names its rule for the second:
    ``unimodal_rule``.
    """

    #: How a single modality's logits are obtained.
    unimodal_rule: str
    #: Whether features may be sequences (B, T, D_m).
    takes_sequences = False

    def __init__(self, feature_dims: Mapping[str, int], num_classes: int) -> None:
        """Note the modalities.

        Args:
            feature_dims: Modality -> width D_m of its feature, in the order of the modalities.
            num_classes: Number of classes C.
        """
        super().__init__()
        self.feature_dims = dict(feature_dims)
        self.num_classes = num_classes

    @abstractmethod
    def forward(self, features: Mapping[str, Tensor], present: Present = None) -> Tensor:
        """Compute the fused logits.

        Args:
            features: Modality -> feature (B, D_m).
            present: Modality -> (B,) bool; None if nothing is missing.

        Returns:
            Logits (B, C).
        """

    @abstractmethod
    def unimodal(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Compute each modality's own logits by ``unimodal_rule``.

        Args:
            features: Modality -> feature (B, D_m).

        Returns:
            Modality -> logits (B, C).
        """

    def weights_of(self, own: Mapping[str, Tensor], present: Present = None) -> Tensor | None:
        """Tell the weights that fused answers give to the modalities' own logits.

        Args:
            own: Modality -> own logits (B, C), of one batch.
            present: Modality -> (B,) bool; None if nothing is missing.

        Returns:
            (M, B), in the order of the modalities; None for a fusion that weights no logits.
        """
        return None

    def zeroed(self, features: Mapping[str, Tensor], present: Present) -> Mapping[str, Tensor]:
        """Replace features of absent modalities by zeros, whatever they hold."""
        if present is None:
            return features
        return {
            name: torch.where(  # a feature is a vector, or a sequence of them
                present[name].view(-1, *[1] * (value.ndim - 1)), value, torch.zeros_like(value)
            )
            for name, value in features.items()
        }

    def only(self, name: str, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Keep one modality's feature and put zeros in place of the others."""
        return {k: v if k == name else torch.zeros_like(v) for k, v in features.items()}

    def others_missing(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Answer by each modality as if all others were absent: a ``unimodal_rule``.

        Args:
            features: Modality -> feature (B, D_m).

        Returns:
            Modality -> logits (B, C).
        """
        first = next(iter(features.values()))
        there = torch.ones(len(first), dtype=torch.bool, device=first.device)
        return {
            name: self(features, {m: there if m == name else ~there for m in features})
            for name in features
        }

    def chosen(self, name: str | None, option: str) -> str:
        """Resolve an option that names a modality; the last one by default.

        Raises:
            ConfigError: If there is no such modality.
        """
        if name is None:
            return list(self.feature_dims)[-1]
        if name not in self.feature_dims:
            raise ConfigError(
                f"fusion {option}={name!r} is no modality.{near(name, self.feature_dims)} "
                f"Modalities: {', '.join(self.feature_dims)}"
            )
        return name


class LogitFusion(Fusion):
    """A fusion that weights each modality's own logits.

    ``weighting`` is ``mean``, ``entropy`` (each sample by its own entropies), ``batch_entropy``
    (the released code's) or one number per modality.
    """

    def __init__(
        self,
        feature_dims: Mapping[str, int],
        num_classes: int,
        *,
        weighting: str | Sequence[float] = "mean",
    ) -> None:
        """Check the weighting.

        Args:
            feature_dims: Modality -> width of its feature.
            num_classes: Number of classes C.
            weighting: The rule or one weight per modality, in their order.

        Raises:
            ConfigError: If the rule is unknown or the number of weights is wrong.
        """
        super().__init__(feature_dims, num_classes)
        rules = ("mean", "entropy", "batch_entropy")
        if isinstance(weighting, str) and weighting not in rules:
            raise ConfigError(
                f"fusion weighting={weighting!r} is unknown.{near(weighting, rules)} "
                f"Known: {', '.join(rules)}, or one number per modality"
            )
        if not isinstance(weighting, str):
            try:
                fixed_weights(weighting, torch.ones(len(self.feature_dims), 1, dtype=torch.bool))
            except ValueError as error:
                raise ConfigError(f"fusion weighting: {error}") from error
        self.weighting = weighting

    def forward(self, features: Mapping[str, Tensor], present: Present = None) -> Tensor:
        """Weight and sum the modalities' own logits; absent ones are left out."""
        own = self.unimodal(features)
        logits_MBC = torch.stack([own[name] for name in self.feature_dims])
        return fuse_logits(self.weights(logits_MBC, present), logits_MBC)

    def weights_of(self, own: Mapping[str, Tensor], present: Present = None) -> Tensor:
        """Tell the weights of the modalities' own logits."""
        return self.weights(torch.stack([own[name] for name in self.feature_dims]), present)

    def weights(self, logits_MBC: Tensor, present: Present = None) -> Tensor:
        """Compute the weights of the modalities.

        Args:
            logits_MBC: Each modality's own logits (M, B, C).
            present: Modality -> (B,) bool; None if nothing is missing.

        Returns:
            Weights (M, B).
        """
        there = None if present is None else torch.stack([present[m] for m in self.feature_dims])
        if self.weighting == "batch_entropy":
            return batch_entropy_weights(logits_MBC, there)
        if self.weighting == "entropy":
            return entropy_weights(logits_MBC, there)
        if there is None:
            there = torch.ones(logits_MBC.shape[:2], dtype=torch.bool, device=logits_MBC.device)
        if self.weighting == "mean":
            return mean_weights(there)
        return fixed_weights(self.weighting, there)  # type: ignore[arg-type]


def linear(in_features: int, out_features: int) -> nn.Linear:
    """Build a linear layer as the released codes start it: Xavier-normal weight, zero bias."""
    layer = nn.Linear(in_features, out_features)
    nn.init.xavier_normal_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
