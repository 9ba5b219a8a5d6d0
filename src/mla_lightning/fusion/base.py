"""Base classes of fusions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from mla_lightning.errors import ConfigError, near
from mla_lightning.functional import (
    at_least_single,
    batch_entropy_weights,
    categorical_entropies,
    energy_confidence,
    fixed_weights,
    fuse_logits,
    mean_weights,
    weights_of_entropies,
)

if TYPE_CHECKING:
    from mla_lightning.tasks import Task

#: Which samples have a modality: modality -> (B,) bool; None if nothing is missing.
Present = Mapping[str, Tensor] | None


class Fusion(nn.Module, ABC):
    """Base class of modules that compute fused logits from the features of all modalities.

    A fusion also computes each modality's own logits, since both are reported for every method.
    How it does this is its single-modality rule, named by ``unimodal_rule``.

    Example:
        A fusion that takes the largest logit over the modalities:

        >>> class MaxFusion(Fusion):
        ...     unimodal_rule = "own_head"
        ...
        ...     def __init__(self, feature_dims, num_classes):
        ...         super().__init__(feature_dims, num_classes)
        ...         heads = {name: linear(dim, num_classes) for name, dim in feature_dims.items()}
        ...         self.heads = nn.ModuleDict(heads)
        ...
        ...     def forward(self, features, present=None):
        ...         logits = self.unimodal(self.zero_absent(features, present))
        ...         return torch.stack(list(logits.values())).amax(dim=0)
        ...
        ...     def unimodal(self, features):
        ...         return {name: head(features[name]) for name, head in self.heads.items()}
        >>> fusion = MaxFusion({"audio": 2, "visual": 3}, num_classes=4)
        >>> fusion({"audio": torch.randn(5, 2), "visual": torch.randn(5, 3)}).shape
        torch.Size([5, 4])
    """

    #: Name of the rule by which a single modality's logits are computed.
    unimodal_rule: str
    #: Whether a single modality's logits go through layers that take several modalities at once.
    mixes_modalities = False
    #: Whether features may be sequences (B, T, D_m).
    takes_sequences = False
    #: Whether a sample's fused logits depend on the other samples of the batch.
    mixes_samples = False
    #: Whether the weights of the logits depend on features, see :meth:`weights_of`.
    weighs_by_features = False
    #: Buffers whose numbers decide what is computed; they are constants of an exported graph.
    read_as_numbers: tuple[str, ...] = ()

    def __init__(self, feature_dims: Mapping[str, int], num_classes: int) -> None:
        """Store the modalities and the number of classes.

        Args:
            feature_dims: Modality -> width D_m of its feature, in the order of the modalities.
            num_classes: Number of classes C.
        """
        super().__init__()
        self.feature_dims = dict(feature_dims)
        self.num_classes = num_classes
        #: Each modality's own logits (M, B, C) -> entropies of the predictions (M, B).
        self.entropies_of: Callable[..., Tensor] = categorical_entropies
        #: Logits (B, C) of a modality -> its energy confidence (B,).
        self.confidence_of: Callable[[Tensor], Tensor] = energy_confidence

    def follow(self, task: Task) -> None:
        """Compute entropies and confidences of logits as a task defines them; at first of classes.

        Args:
            task: The task of the data.

        Raises:
            ConfigError: If the fusion computes something that the task does not define.
        """
        self.entropies_of, self.confidence_of = task.entropies, task.confidence

    @abstractmethod
    def forward(self, features: Mapping[str, Tensor], present: Present = None) -> Tensor:
        """Compute the fused logits.

        Args:
            features: Modality -> feature (B, D_m).
            present: Modality -> (B,) bool, true for samples that have it; None if nothing is
                missing.

        Returns:
            Logits (B, C).
        """

    @abstractmethod
    def unimodal(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Compute each modality's own logits by the rule ``unimodal_rule``.

        Args:
            features: Modality -> feature (B, D_m).

        Returns:
            Modality -> logits (B, C).
        """

    def logit_weights(
        self, own_logits: Mapping[str, Tensor], present: Present = None
    ) -> Tensor | None:
        """Compute the weights that the fused logits give to the modalities' own logits.

        Args:
            own_logits: Modality -> its own logits (B, C), of one batch.
            present: Modality -> (B,) bool; None if nothing is missing.

        Returns:
            Weights (M, B), in the order of the modalities; None for a fusion that does not weight
            logits, or weights them by features.
        """
        return None

    def weights_of(self, features: Mapping[str, Tensor], present: Present = None) -> Tensor | None:
        """Compute the weights that the fused logits give to the modalities' own logits.

        Args:
            features: Modality -> feature (B, D_m), of one batch.
            present: Modality -> (B,) bool; None if nothing is missing.

        Returns:
            Weights (M, B), as those of :meth:`logit_weights`; None for a fusion that does not
            weight logits.
        """
        return self.logit_weights(self.unimodal(features), present)

    def zero_absent(self, features: Mapping[str, Tensor], present: Present) -> Mapping[str, Tensor]:
        """Replace the features of absent modalities by zeros.

        Args:
            features: Modality -> feature (B, D_m) or (B, T, D_m); absent ones may hold anything.
            present: Modality -> (B,) bool; None if nothing is missing.

        Returns:
            Modality -> feature of the same shape.
        """
        if present is None:
            return features
        return {
            name: torch.where(
                present[name].view(-1, *[1] * (value.ndim - 1)), value, torch.zeros_like(value)
            )
            for name, value in features.items()
        }

    def zero_others(self, name: str, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the features with those of all modalities but one replaced by zeros."""
        return {k: v if k == name else torch.zeros_like(v) for k, v in features.items()}

    def unimodal_by_others_missing(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Compute each modality's fused logits with all others absent: a single-modality rule.

        Args:
            features: Modality -> feature (B, D_m).

        Returns:
            Modality -> logits (B, C).
        """
        first = next(iter(features.values()))
        all_true = torch.ones(first.shape[0], dtype=torch.bool, device=first.device)
        return {
            name: self(features, {m: all_true if m == name else ~all_true for m in features})
            for name in features
        }

    def resolve_modality(self, name: str | None, option: str) -> str:
        """Return the modality that an option names; the last one by default.

        Args:
            name: The option's value.
            option: The option's name, for the message.

        Raises:
            ConfigError: If there is no such modality.
        """
        if name is None:
            return list(self.feature_dims)[-1]
        if name not in self.feature_dims:
            raise ConfigError(
                f"fusion {option}={name!r} is not a modality.{near(name, self.feature_dims)} "
                f"Modalities: {', '.join(self.feature_dims)}"
            )
        return name


class LogitFusion(Fusion):
    """Base class of fusions whose fused logits are a weighted sum of the modalities' own logits.

    ``weighting`` is ``mean``, ``entropy`` (each sample by the entropies of its own predictions, as
    the task defines them: for regression each modality by its residuals on train),
    ``batch_entropy`` (one weight per modality and batch, as in MLA's released code) or a list of
    one number per modality.

    Example:
        >>> from mla_lightning.fusion import LateFusion
        >>> logits = {"audio": torch.tensor([[100.0, 0.0]]), "visual": torch.tensor([[0.0, 0.0]])}
        >>> dims = {"audio": 2, "visual": 3}
        >>> LateFusion(dims, 2, weighting="mean").logit_weights(logits).T
        tensor([[0.5000, 0.5000]])
        >>> LateFusion(dims, 2, weighting="entropy").logit_weights(logits).T  # audio is certain
        tensor([[0.6667, 0.3333]])
        >>> LateFusion(dims, 2, weighting=[1.0, 3.0]).logit_weights(logits).T
        tensor([[0.2500, 0.7500]])
    """

    def __init__(
        self,
        feature_dims: Mapping[str, int],
        num_classes: int,
        *,
        weighting: str | Sequence[float] = "mean",
    ) -> None:
        """Check and store the weighting.

        Args:
            feature_dims: Modality -> width of its feature.
            num_classes: Number of classes C.
            weighting: ``mean``, ``entropy``, ``batch_entropy``, or one weight per modality, in
                their order.

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
        self.mixes_samples = weighting == "batch_entropy"
        #: Each modality's variance of the residuals on train (M,), where entropies need it.
        self.residual_variance: Tensor | None
        self.register_buffer("residual_variance", None)

    def follow(self, task: Task) -> None:
        """Compute entropies as a task defines them; see :meth:`Fusion.follow`."""
        super().follow(task)
        if self.weighting == "batch_entropy" and not task.has_classes:
            raise ConfigError(
                f"weighting=batch_entropy is not defined for {task.name}: it has the entropy of "
                "classes over a batch. Use weighting=entropy (MLA: method.dynamic_weighting), or "
                "fixed weights."
            )
        if self.weighting == "entropy" and task.has_residual_variance:
            self.residual_variance = torch.ones(len(self.feature_dims))

    def forward(self, features: Mapping[str, Tensor], present: Present = None) -> Tensor:
        """Compute the weighted sum of the logits of the present modalities."""
        own_logits = self.unimodal(self.zero_absent(features, present))
        logits_MBC = torch.stack([own_logits[name] for name in self.feature_dims])
        return fuse_logits(self.weights(logits_MBC, present), logits_MBC)

    def logit_weights(self, own_logits: Mapping[str, Tensor], present: Present = None) -> Tensor:
        """Compute the weights of the modalities' own logits, see :meth:`Fusion.logit_weights`."""
        return self.weights(torch.stack([own_logits[name] for name in self.feature_dims]), present)

    def weights(self, logits_MBC: Tensor, present: Present = None) -> Tensor:
        """Compute the weights of the modalities.

        Args:
            logits_MBC: Each modality's own logits (M, B, C).
            present: Modality -> (B,) bool; None if nothing is missing.

        Returns:
            Weights (M, B).
        """
        present_MB = (
            None if present is None else torch.stack([present[m] for m in self.feature_dims])
        )
        if self.weighting == "batch_entropy":
            return batch_entropy_weights(logits_MBC, present_MB)
        if self.weighting == "entropy":
            variance = () if self.residual_variance is None else (self.residual_variance,)
            return weights_of_entropies(self.entropies_of(logits_MBC, *variance), present_MB)
        if present_MB is None:
            present_MB = torch.ones(
                logits_MBC.shape[:2], dtype=torch.bool, device=logits_MBC.device
            )
        dtype = at_least_single(logits_MBC).dtype
        if self.weighting == "mean":
            return mean_weights(present_MB, dtype)
        return fixed_weights(self.weighting, present_MB, dtype)  # type: ignore[arg-type]


def linear(in_features: int, out_features: int) -> nn.Linear:
    """Build a linear layer with Xavier-normal weight and zero bias, as the released codes do.

    Example:
        >>> layer = linear(3, 2)
        >>> layer.weight.shape, layer.bias.detach()
        (torch.Size([2, 3]), tensor([0., 0.]))
    """
    layer = nn.Linear(in_features, out_features)
    nn.init.xavier_normal_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
